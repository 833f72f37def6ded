-- Merges wait for more parts, as those of logs and spans do (docs/ingest-speed.md has the figures).
ALTER TABLE airis.samples_local MODIFY SETTING merge_selector_base = 10;

ALTER TABLE airis.samples_1m_local MODIFY SETTING merge_selector_base = 10;

ALTER TABLE airis.samples_1h_local MODIFY SETTING merge_selector_base = 10;
