-- What is known of a series. Written when it is first seen, once a day while it lives, and when its metadata changes.
CREATE TABLE IF NOT EXISTS airis.series_local
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    series_id UInt64,
    kind LowCardinality(String),
    unit LowCardinality(String),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(3)),
    metadata String CODEC(ZSTD(3)),
    last_seen DateTime64(3, 'UTC'),
    INDEX label_keys mapKeys(labels) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX label_values mapValues(labels) TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY (tenant, metric, series_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.series AS airis.series_local
ENGINE = Distributed('shop', 'airis', 'series_local', cityHash64(tenant));

CREATE TABLE IF NOT EXISTS airis.samples_local
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    series_id UInt64 CODEC(Delta, ZSTD),
    timestamp DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD),
    start_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    value Float64 CODEC(Gorilla, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, metric, series_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.samples AS airis.samples_local
ENGINE = Distributed('shop', 'airis', 'samples_local', cityHash64(tenant));

CREATE TABLE IF NOT EXISTS airis.samples_1m_local
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    series_id UInt64 CODEC(Delta, ZSTD),
    timestamp DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    sum SimpleAggregateFunction(sum, Float64) CODEC(Gorilla, ZSTD),
    count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    min SimpleAggregateFunction(min, Float64) CODEC(Gorilla, ZSTD),
    max SimpleAggregateFunction(max, Float64) CODEC(Gorilla, ZSTD),
    last AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')) CODEC(ZSTD)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, metric, series_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.samples_1m AS airis.samples_1m_local
ENGINE = Distributed('shop', 'airis', 'samples_1m_local', cityHash64(tenant));

CREATE TABLE IF NOT EXISTS airis.samples_1h_local AS airis.samples_1m_local
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, metric, series_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.samples_1h AS airis.samples_1h_local
ENGINE = Distributed('shop', 'airis', 'samples_1h_local', cityHash64(tenant));

CREATE MATERIALIZED VIEW IF NOT EXISTS airis.samples_to_1m_local TO airis.samples_1m_local AS
SELECT tenant, metric, series_id, toStartOfMinute(samples.timestamp) AS timestamp,
       sum(value) AS sum, count() AS count, min(value) AS min, max(value) AS max,
       argMaxState(value, samples.timestamp) AS last
FROM airis.samples_local AS samples
GROUP BY tenant, metric, series_id, timestamp;

CREATE MATERIALIZED VIEW IF NOT EXISTS airis.samples_to_1h_local TO airis.samples_1h_local AS
SELECT tenant, metric, series_id, toStartOfHour(samples.timestamp) AS timestamp,
       sum(value) AS sum, count() AS count, min(value) AS min, max(value) AS max,
       argMaxState(value, samples.timestamp) AS last
FROM airis.samples_local AS samples
GROUP BY tenant, metric, series_id, timestamp;

-- Histograms, exponential histograms and summaries, one row a point.
CREATE TABLE IF NOT EXISTS airis.distributions_local
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    series_id UInt64 CODEC(Delta, ZSTD),
    timestamp DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD),
    start_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    count UInt64 CODEC(ZSTD),
    sum Nullable(Float64) CODEC(ZSTD),
    min Nullable(Float64) CODEC(ZSTD),
    max Nullable(Float64) CODEC(ZSTD),
    bounds Array(Float64) CODEC(ZSTD),
    bucket_counts Array(UInt64) CODEC(ZSTD),
    scale Int32 CODEC(ZSTD),
    zero_count UInt64 CODEC(ZSTD),
    zero_threshold Float64 CODEC(ZSTD),
    positive_offset Int32 CODEC(ZSTD),
    positive_counts Array(UInt64) CODEC(ZSTD),
    negative_offset Int32 CODEC(ZSTD),
    negative_counts Array(UInt64) CODEC(ZSTD),
    quantiles Array(Float64) CODEC(ZSTD),
    quantile_values Array(Float64) CODEC(ZSTD)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, metric, series_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.distributions AS airis.distributions_local
ENGINE = Distributed('shop', 'airis', 'distributions_local', cityHash64(tenant));

-- The ids of requests that are stored, kept for a day, so that a repeated request is recognized after a restart.
CREATE TABLE IF NOT EXISTS airis.metric_ingest_ids_local
(
    tenant LowCardinality(String),
    request_id String CODEC(ZSTD),
    producer_id String CODEC(ZSTD),
    sequence Int64 CODEC(ZSTD),
    received_at DateTime64(9, 'UTC') CODEC(ZSTD)
)
ENGINE = MergeTree
ORDER BY (tenant, received_at)
TTL toDateTime(received_at) + INTERVAL 1 DAY
SETTINGS non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.metric_ingest_ids AS airis.metric_ingest_ids_local
ENGINE = Distributed('shop', 'airis', 'metric_ingest_ids_local', cityHash64(tenant));
