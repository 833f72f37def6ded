-- Values take half the room: those of a series are close to each other, and most have few digits. New parts are written
-- so, and old ones when they are merged.
ALTER TABLE airis.samples MODIFY COLUMN value Float64 CODEC(Delta, ZSTD);
ALTER TABLE airis.samples_1m MODIFY COLUMN sum SimpleAggregateFunction(sum, Float64) CODEC(Delta, ZSTD);
ALTER TABLE airis.samples_1m MODIFY COLUMN min SimpleAggregateFunction(min, Float64) CODEC(Delta, ZSTD);
ALTER TABLE airis.samples_1m MODIFY COLUMN max SimpleAggregateFunction(max, Float64) CODEC(Delta, ZSTD);
ALTER TABLE airis.samples_1h MODIFY COLUMN sum SimpleAggregateFunction(sum, Float64) CODEC(Delta, ZSTD);
ALTER TABLE airis.samples_1h MODIFY COLUMN min SimpleAggregateFunction(min, Float64) CODEC(Delta, ZSTD);
ALTER TABLE airis.samples_1h MODIFY COLUMN max SimpleAggregateFunction(max, Float64) CODEC(Delta, ZSTD);
