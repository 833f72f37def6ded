-- One row an entry. The newest of a service are read in the order of the key; a range over all services reads the
-- granules of that range. `ingest_position` is the position of the batch and, in its lowest 24 bits, the place in it.
CREATE TABLE IF NOT EXISTS airis.logs_local
(
    tenant LowCardinality(String),
    service LowCardinality(String),
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    ingest_position UInt64 CODEC(Delta, ZSTD),
    level UInt8 CODEC(ZSTD),
    message String CODEC(ZSTD),
    trace_id String CODEC(ZSTD),
    span_id String CODEC(ZSTD),
    labels Map(LowCardinality(String), String) CODEC(ZSTD),
    metadata_string Map(LowCardinality(String), String) CODEC(ZSTD),
    metadata_int64 Map(LowCardinality(String), Int64) CODEC(ZSTD),
    metadata_double Map(LowCardinality(String), Float64) CODEC(ZSTD),
    metadata_bool Map(LowCardinality(String), Bool) CODEC(ZSTD),
    metadata_encoded Map(LowCardinality(String), String) CODEC(ZSTD),
    stack_trace String CODEC(ZSTD),
    user_id String CODEC(ZSTD),
    request_id String CODEC(ZSTD),
    duration_ms Float64 CODEC(ZSTD),
    status_code Int32 CODEC(ZSTD),
    url String CODEC(ZSTD),
    method LowCardinality(String) CODEC(ZSTD),
    INDEX message_text message TYPE text(tokenizer = 'asciiCJK', preprocessor = translate(lowerUTF8(message), '_.:;,\'', '      ')),
    INDEX ingest_positions ingest_position TYPE minmax GRANULARITY 1,
    INDEX trace_ids trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX request_ids request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX label_values mapValues(labels) TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/airis/logs_local', '{replica}')
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, service, timestamp, ingest_position)
SETTINGS replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.logs AS airis.logs_local
ENGINE = Distributed('shop', 'airis', 'logs_local', cityHash64(tenant));

-- How many entries a service wrote at a level in each minute.
CREATE TABLE IF NOT EXISTS airis.logs_1m_local
(
    tenant LowCardinality(String),
    service LowCardinality(String),
    level UInt8,
    timestamp DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/airis/logs_1m_local', '{replica}')
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, service, level, timestamp)
SETTINGS replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.logs_1m AS airis.logs_1m_local
ENGINE = Distributed('shop', 'airis', 'logs_1m_local', cityHash64(tenant));

CREATE MATERIALIZED VIEW IF NOT EXISTS airis.logs_to_1m_local TO airis.logs_1m_local AS
SELECT tenant, service, level, toStartOfMinute(logs.timestamp) AS timestamp, count() AS count
FROM airis.logs_local AS logs
GROUP BY tenant, service, level, timestamp;

-- The ids of requests that are stored, kept for a day, so that a repeated request is recognized after a restart.
CREATE TABLE IF NOT EXISTS airis.log_ingest_ids_local
(
    tenant LowCardinality(String),
    request_id String CODEC(ZSTD),
    producer_id String CODEC(ZSTD),
    sequence Int64 CODEC(ZSTD),
    received_at DateTime64(9, 'UTC') CODEC(ZSTD)
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/airis/log_ingest_ids_local', '{replica}')
ORDER BY (tenant, received_at)
TTL toDateTime(received_at) + INTERVAL 1 DAY
SETTINGS replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.log_ingest_ids AS airis.log_ingest_ids_local
ENGINE = Distributed('shop', 'airis', 'log_ingest_ids_local', cityHash64(tenant));
