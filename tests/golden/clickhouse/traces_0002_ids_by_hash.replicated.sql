-- The ids of stored requests by their hash, so that it takes milliseconds to tell whether one is known. Of a producer
-- only the newest is kept. It is xxh3 of the length of the tenant in bytes, ":", the tenant, and "r" with the request
-- or "p" with the producer.
CREATE TABLE IF NOT EXISTS airis.span_known_ids_local
(
    tenant LowCardinality(String),
    id_hash UInt64 CODEC(NONE),
    request_id String CODEC(ZSTD),
    producer_id String CODEC(ZSTD),
    sequence UInt64 CODEC(ZSTD),
    received_at DateTime64(9, 'UTC') CODEC(ZSTD),
    stored_at DateTime('UTC') DEFAULT now() CODEC(ZSTD),
    INDEX hashes id_hash TYPE bloom_filter(0.0001) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/airis/span_known_ids_local', '{replica}', sequence)
PARTITION BY toDate(received_at)
ORDER BY (tenant, id_hash, request_id, producer_id)
TTL stored_at + INTERVAL 1 DAY
SETTINGS index_granularity = 1024, ttl_only_drop_parts = 1, replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 604800,
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS airis.span_known_ids AS airis.span_known_ids_local
ENGINE = Distributed('shop', 'airis', 'span_known_ids_local', cityHash64(tenant));

-- What the former table holds; it gets no more, and its TTL empties it. Twice does no harm.
INSERT INTO airis.span_known_ids_local (tenant, id_hash, request_id, producer_id, sequence, received_at)
SELECT tenant,
       xxh3(concat(toString(length(tenant)), ':', tenant,
                   if(request_id = '', concat('p', producer_id), concat('r', request_id)))),
       request_id, producer_id, sequence, received_at
FROM airis.span_ingest_ids_local AS span_ingest_ids
WHERE received_at > now() - INTERVAL 1 DAY;
