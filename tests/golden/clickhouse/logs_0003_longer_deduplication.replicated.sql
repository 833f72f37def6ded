-- How many inserts a table knows by their tokens: an insert may be repeated after as many others. An insert takes a
-- place in each of its partitions.
ALTER TABLE airis.logs_local MODIFY SETTING replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE airis.logs_1m_local MODIFY SETTING replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE airis.log_ingest_ids_local MODIFY SETTING replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE airis.log_known_ids_local MODIFY SETTING replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;
