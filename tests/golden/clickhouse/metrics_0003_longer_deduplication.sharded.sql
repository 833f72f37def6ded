-- How many inserts a table knows by their tokens: an insert may be repeated after as many others. An insert takes a
-- place in each of its partitions.
ALTER TABLE airis.series_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.samples_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.samples_1m_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.samples_1h_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.distributions_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.metric_ingest_ids_local MODIFY SETTING non_replicated_deduplication_window = 10000;

ALTER TABLE airis.metric_known_ids_local MODIFY SETTING non_replicated_deduplication_window = 10000;
