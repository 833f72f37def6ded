-- Resources. `spec` is the domain type as JSON; what queries need beside it has columns of its own.

CREATE TABLE channels (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    etag        text NOT NULL,
    spec        jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE silences (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    etag        text NOT NULL,
    spec        jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    start_time  timestamptz NOT NULL,
    end_time    timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE INDEX silences_by_end ON silences (tenant, end_time);

CREATE TABLE escalation_policies (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    etag        text NOT NULL,
    spec        jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE alert_rules (
    tenant              text COLLATE "C" NOT NULL,
    id                  text COLLATE "C" NOT NULL,
    etag                text NOT NULL,
    spec                jsonb NOT NULL,
    create_time         timestamptz NOT NULL,
    update_time         timestamptz NOT NULL,
    enabled             boolean NOT NULL,
    evaluation_interval interval NOT NULL,
    -- When the next evaluation is due. Taking a rule moves this on, so that nobody else takes it.
    next_evaluation_at  timestamptz NOT NULL DEFAULT 'infinity',
    -- The newest evaluation whose result was written; an older one that comes late is dropped.
    evaluated_at        timestamptz,
    last_error          text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, id)
);

CREATE INDEX alert_rules_due ON alert_rules (tenant, next_evaluation_at) WHERE enabled;

-- Who names which channel, so that one that is in use cannot be deleted.

CREATE TABLE alert_rule_channels (
    tenant     text COLLATE "C" NOT NULL,
    owner_id   text COLLATE "C" NOT NULL,
    channel_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, owner_id, channel_id),
    FOREIGN KEY (tenant, owner_id) REFERENCES alert_rules (tenant, id) ON DELETE CASCADE,
    CONSTRAINT alert_rule_channel_exists FOREIGN KEY (tenant, channel_id) REFERENCES channels (tenant, id)
);

CREATE INDEX alert_rule_channels_by_channel ON alert_rule_channels (tenant, channel_id);

CREATE TABLE escalation_policy_channels (
    tenant     text COLLATE "C" NOT NULL,
    owner_id   text COLLATE "C" NOT NULL,
    channel_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, owner_id, channel_id),
    FOREIGN KEY (tenant, owner_id) REFERENCES escalation_policies (tenant, id) ON DELETE CASCADE,
    CONSTRAINT escalation_policy_channel_exists
        FOREIGN KEY (tenant, channel_id) REFERENCES channels (tenant, id)
);

CREATE INDEX escalation_policy_channels_by_channel ON escalation_policy_channels (tenant, channel_id);

-- What the evaluator remembers of each group of a rule between evaluations.

CREATE TABLE alert_groups (
    tenant      text COLLATE "C" NOT NULL,
    rule_id     text COLLATE "C" NOT NULL,
    -- A hash of the labels, which may be too long for an index.
    fingerprint text COLLATE "C" NOT NULL,
    labels      jsonb NOT NULL,
    phase       smallint NOT NULL,
    held_since  timestamptz[] NOT NULL,
    alert_id    text COLLATE "C" NOT NULL,
    value       double precision NOT NULL,
    PRIMARY KEY (tenant, rule_id, fingerprint),
    FOREIGN KEY (tenant, rule_id) REFERENCES alert_rules (tenant, id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX alert_groups_by_alert ON alert_groups (tenant, alert_id) WHERE alert_id <> '';

-- What happened: only ever added to. It is the truth of which `alerts` is the projection.

CREATE TABLE alert_events (
    tenant       text COLLATE "C" NOT NULL,
    number       bigint GENERATED ALWAYS AS IDENTITY,
    alert_id     text COLLATE "C" NOT NULL,
    kind         smallint NOT NULL,
    event_time   timestamptz NOT NULL,
    value        double precision NOT NULL,
    rule_id      text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    severity     smallint NOT NULL,
    labels       jsonb NOT NULL,
    actor        text NOT NULL,
    comment      text NOT NULL,
    PRIMARY KEY (tenant, number)
);

CREATE INDEX alert_events_by_alert ON alert_events (tenant, alert_id, number);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'alert_events is append-only: % is refused', TG_OP;
END
$$;

CREATE TRIGGER alert_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON alert_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE alerts (
    tenant           text COLLATE "C" NOT NULL,
    id               text COLLATE "C" NOT NULL,
    rule_id          text COLLATE "C" NOT NULL,
    display_name     text NOT NULL,
    severity         smallint NOT NULL,
    state            smallint NOT NULL,
    labels           jsonb NOT NULL,
    value            double precision NOT NULL,
    start_time       timestamptz NOT NULL,
    fire_time        timestamptz,
    resolve_time     timestamptz,
    acknowledge_time timestamptz,
    acknowledged_by  text NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- PENDING and FIRING, which is what is asked for by default.
CREATE INDEX alerts_active ON alerts (tenant, id) WHERE state IN (2, 3);

-- Notifications on their way. A row is written in the transaction of the event that it tells of.

CREATE TABLE outbox (
    tenant          text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    event_number    bigint NOT NULL,
    alert_id        text COLLATE "C" NOT NULL,
    channel_id      text COLLATE "C" NOT NULL,
    kind            smallint NOT NULL,
    -- PENDING is to be sent, HELD waits for a silence to end; SENT, FAILED and DROPPED are final.
    status          text NOT NULL CHECK (status IN ('PENDING', 'HELD', 'SENT', 'FAILED', 'DROPPED')),
    payload         jsonb NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    -- Taking a row moves this on, so that nobody else takes it while it is sent.
    next_attempt_at timestamptz NOT NULL,
    finish_time     timestamptz,
    last_error      text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, key)
);

CREATE INDEX outbox_due ON outbox (tenant, next_attempt_at) WHERE status = 'PENDING';
CREATE INDEX outbox_held ON outbox (tenant, event_number) WHERE status = 'HELD';
CREATE INDEX outbox_by_alert ON outbox (tenant, alert_id, channel_id, event_number);
CREATE INDEX outbox_finished ON outbox (tenant, finish_time) WHERE finish_time IS NOT NULL;
