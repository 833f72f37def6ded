WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {group_by:Array(String)}) AS g
  FROM airis.series
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND (labels[{f0:String}] = {f1:String} AND NOT (position(lowerUTF8(labels[{f2:String}]), {f3:String}) > 0))
  LIMIT 1 BY series_id
)
SELECT g, t, sum(s) AS v
FROM (
  SELECT p.series_id AS series_id, p.t AS t, sum(p.s) AS s, sum(p.c) AS c, min(p.mn) AS mn, max(p.mx) AS mx,
         argMax(p.l, p.lt) AS l
  FROM (
  SELECT series_id, intDiv(toUnixTimestamp64Milli(timestamp), {step:Int64}) * {step:Int64} AS t, sum(value) AS s, count() AS c,
         min(value) AS mn, max(value) AS mx, argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({raw0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw0_end:Int64}) AND series_id IN (SELECT series_id FROM selected)
  GROUP BY series_id, t
  UNION ALL
  SELECT series_id, intDiv(toUnixTimestamp64Milli(timestamp), {step:Int64}) * {step:Int64} AS t, sum(value) AS s, count() AS c,
         min(value) AS mn, max(value) AS mx, argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({raw1_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw1_end:Int64}) AND series_id IN (SELECT series_id FROM selected)
  GROUP BY series_id, t
  UNION ALL
  SELECT series_id, intDiv(toInt64(toUnixTimestamp(timestamp)) * 1000, {step:Int64}) * {step:Int64} AS t, sum(r.sum) AS s, sum(r.count) AS c,
         min(r.min) AS mn, max(r.max) AS mx, argMaxMerge(r.last) AS l,
         max(toDateTime64(timestamp, 3, 'UTC')) AS lt
  FROM airis.samples_1m AS r
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({rollup_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({rollup_end:Int64}) AND series_id IN (SELECT series_id FROM selected)
  GROUP BY series_id, t
  ) AS p
  GROUP BY series_id, t
) AS stepped
INNER JOIN selected USING series_id
GROUP BY g, t
ORDER BY g, t

-- end = 1790018000000
-- f0 = 'host'
-- f1 = 'a'
-- f2 = 'path'
-- f3 = '/health'
-- group_by = []
-- metric = 'cpu'
-- raw0_end = 1790000040000
-- raw0_start = 1790000000000
-- raw1_end = 1790018000000
-- raw1_start = 1790017980000
-- rollup_end = 1790017980000
-- rollup_start = 1790000040000
-- start = 1790000000000
-- step = 60000
-- tenant = 'default'
