-- What is written from now on takes less room and is merged less often (docs/storage-cost.md has the figures). Nothing
-- that is stored is rewritten: each part says how it was written, and its next merge writes it the new way.
ALTER TABLE airis.spans MODIFY SETTING merge_selector_base = 10;
ALTER TABLE airis.traces MODIFY SETTING merge_selector_base = 10;
ALTER TABLE airis.spans
    MODIFY COLUMN start_time CODEC(Delta, T64, ZSTD),
    MODIFY COLUMN duration_ns CODEC(T64, ZSTD),
    MODIFY COLUMN trace_id CODEC(ZSTD(3)),
    MODIFY COLUMN span_id CODEC(ZSTD(3)),
    MODIFY COLUMN parent_span_id CODEC(ZSTD(3)),
    MODIFY COLUMN tag_string CODEC(ZSTD(3)),
    MODIFY COLUMN tag_int64 CODEC(ZSTD(3));
ALTER TABLE airis.traces
    MODIFY COLUMN trace_id CODEC(ZSTD(3)),
    MODIFY COLUMN first CODEC(Delta, T64, ZSTD),
    MODIFY COLUMN last CODEC(Delta, T64, ZSTD),
    MODIFY COLUMN finished_ns CODEC(Delta, T64, ZSTD),
    MODIFY COLUMN services CODEC(ZSTD(3)),
    MODIFY COLUMN root CODEC(ZSTD(3));
