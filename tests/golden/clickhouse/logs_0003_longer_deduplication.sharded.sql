-- How many inserts a table knows by their tokens: an insert may be repeated after as many others. An insert takes a
-- place in each of its partitions.
ALTER TABLE airis.logs_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.logs_1m_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.log_ingest_ids_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.log_known_ids_local MODIFY SETTING non_replicated_deduplication_window = 10000;
