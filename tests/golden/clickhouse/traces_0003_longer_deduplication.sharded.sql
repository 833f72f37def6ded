-- How many inserts a table knows by their tokens: an insert may be repeated after as many others. An insert takes a
-- place in each of its partitions.
ALTER TABLE airis.spans_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.traces_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.span_red_1m_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.span_ingest_ids_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.span_known_ids_local MODIFY SETTING non_replicated_deduplication_window = 10000;
