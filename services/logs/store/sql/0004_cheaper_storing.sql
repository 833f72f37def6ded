-- What is written from now on takes less room and is merged less often (docs/storage-cost.md has the figures). Nothing
-- that is stored is rewritten: each part says how it was written, and its next merge writes it the new way.
ALTER TABLE airis.logs MODIFY SETTING text_index_posting_list_codec = 'bitpacking', merge_selector_base = 10;
ALTER TABLE airis.logs
    MODIFY COLUMN timestamp CODEC(Delta, T64, ZSTD),
    MODIFY COLUMN labels CODEC(ZSTD(3)),
    MODIFY COLUMN metadata_string CODEC(ZSTD(3)),
    MODIFY COLUMN metadata_int64 CODEC(ZSTD(3)),
    MODIFY COLUMN metadata_double CODEC(ZSTD(3)),
    MODIFY COLUMN status_code CODEC(T64, ZSTD);
