CREATE TABLE IF NOT EXISTS airis.spans_local
(
    tenant LowCardinality(String),
    service LowCardinality(String),
    operation LowCardinality(String),
    kind Int8 CODEC(ZSTD),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    duration_ns Nullable(Int64) CODEC(ZSTD),
    trace_id String CODEC(ZSTD),
    span_id String CODEC(ZSTD),
    parent_span_id String CODEC(ZSTD),
    status_code Int8 CODEC(ZSTD),
    status_message String CODEC(ZSTD),
    tag_string Map(LowCardinality(String), String) CODEC(ZSTD),
    tag_int64 Map(LowCardinality(String), Int64) CODEC(ZSTD),
    tag_double Map(LowCardinality(String), Float64) CODEC(ZSTD),
    tag_bool Map(LowCardinality(String), Bool) CODEC(ZSTD),
    tag_encoded Map(LowCardinality(String), String) CODEC(ZSTD),
    event_time Array(Int64) CODEC(ZSTD),
    event_fields Array(Map(String, String)) CODEC(ZSTD),
    link_trace_id Array(String) CODEC(ZSTD),
    link_span_id Array(String) CODEC(ZSTD),
    link_tags Array(Map(String, String)) CODEC(ZSTD),
    INDEX trace_ids trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX tag_values mapValues(tag_string) TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/airis/spans_local', '{replica}')
PARTITION BY toYYYYMM(start_time)
ORDER BY (tenant, service, start_time)
SETTINGS index_granularity = 2048, replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.spans AS airis.spans_local
ENGINE = Distributed('shop', 'airis', 'spans_local', cityHash64(tenant));

-- What is known of a trace without its spans, and where in time they are: a trace is read from that narrow range.
CREATE TABLE IF NOT EXISTS airis.traces_local
(
    tenant LowCardinality(String),
    trace_id String CODEC(ZSTD),
    first SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD),
    last SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD),
    finished_ns SimpleAggregateFunction(max, Int64) CODEC(Delta, ZSTD),
    span_count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    error_count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    services SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD),
    root AggregateFunction(argMin, Tuple(String, String), Tuple(UInt8, DateTime64(9, 'UTC'), String)) CODEC(ZSTD)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/airis/traces_local', '{replica}')
PARTITION BY toYYYYMM(first)
ORDER BY (tenant, trace_id)
SETTINGS index_granularity = 1024, replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.traces AS airis.traces_local
ENGINE = Distributed('shop', 'airis', 'traces_local', cityHash64(tenant));

CREATE MATERIALIZED VIEW IF NOT EXISTS airis.spans_to_traces_local TO airis.traces_local AS
SELECT tenant, trace_id, min(start_time) AS first, max(start_time) AS last,
       max(toUnixTimestamp64Nano(start_time) + ifNull(duration_ns, 0)) AS finished_ns,
       count() AS span_count, countIf(status_code = 2) AS error_count,
       groupUniqArray(toString(service)) AS services,
       argMinState((toString(service), toString(operation)),
                   (toUInt8(parent_span_id != ''), start_time, span_id)) AS root
FROM airis.spans_local AS spans
GROUP BY tenant, trace_id;

-- Rate, errors and durations by minute. The quantiles are within 1 % of the true ones, also after merging.
CREATE TABLE IF NOT EXISTS airis.span_red_1m_local
(
    tenant LowCardinality(String),
    service LowCardinality(String),
    operation LowCardinality(String),
    kind Int8 CODEC(ZSTD),
    minute DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    errors SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    duration_sum SimpleAggregateFunction(sum, Float64) CODEC(ZSTD),
    durations AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Nullable(Int64)) CODEC(ZSTD)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/airis/span_red_1m_local', '{replica}')
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, service, operation, kind, minute)
SETTINGS replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.span_red_1m AS airis.span_red_1m_local
ENGINE = Distributed('shop', 'airis', 'span_red_1m_local', cityHash64(tenant));

CREATE MATERIALIZED VIEW IF NOT EXISTS airis.spans_to_red_1m_local TO airis.span_red_1m_local AS
SELECT tenant, service, operation, kind, toStartOfMinute(start_time) AS minute,
       count() AS count, countIf(status_code = 2) AS errors, sum(toFloat64(ifNull(duration_ns, 0))) AS duration_sum,
       quantilesDDState(0.01, 0.5, 0.95, 0.99)(duration_ns) AS durations
FROM airis.spans_local AS spans
GROUP BY tenant, service, operation, kind, minute;

-- Which services call which, by the minute in which the called span starts. The worker writes a minute anew while
-- spans of it come. Calls are only ever added, so of two rows the one with more calls is the newer.
CREATE TABLE IF NOT EXISTS airis.service_edges_1m_local
(
    tenant LowCardinality(String),
    minute DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    caller LowCardinality(String),
    callee LowCardinality(String),
    call_count UInt64 CODEC(ZSTD),
    error_count UInt64 CODEC(ZSTD),
    durations AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Nullable(Int64)) CODEC(ZSTD)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/airis/service_edges_1m_local', '{replica}', call_count)
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, minute, caller, callee)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.service_edges_1m AS airis.service_edges_1m_local
ENGINE = Distributed('shop', 'airis', 'service_edges_1m_local', cityHash64(tenant));

-- The ids of requests that are stored, kept for a day, so that a repeated request is recognized after a restart.
CREATE TABLE IF NOT EXISTS airis.span_ingest_ids_local
(
    tenant LowCardinality(String),
    request_id String CODEC(ZSTD),
    producer_id String CODEC(ZSTD),
    sequence Int64 CODEC(ZSTD),
    received_at DateTime64(9, 'UTC') CODEC(ZSTD)
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/airis/span_ingest_ids_local', '{replica}')
ORDER BY (tenant, received_at)
TTL toDateTime(received_at) + INTERVAL 1 DAY
SETTINGS replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.span_ingest_ids AS airis.span_ingest_ids_local
ENGINE = Distributed('shop', 'airis', 'span_ingest_ids_local', cityHash64(tenant));
