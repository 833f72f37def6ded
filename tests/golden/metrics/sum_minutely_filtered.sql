WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {group_by:Array(String)}) AS g
  FROM airis.series
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND (labels[{f0:String}] = {f1:String} AND NOT (position(lowerUTF8(labels[{f2:String}]), {f3:String}) > 0))
  LIMIT 1 BY series_id
)
SELECT g, t, sum(x) AS v
FROM (
  SELECT series_id, intDiv(toUnixTimestamp64Milli(timestamp), {step:Int64}) * {step:Int64} AS t, value AS x
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND ((timestamp >= fromUnixTimestamp64Milli({raw0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw0_end:Int64})) OR (timestamp >= fromUnixTimestamp64Milli({raw1_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw1_end:Int64}))) AND series_id IN (SELECT series_id FROM selected)
  UNION ALL
  SELECT series_id, intDiv(toInt64(toUnixTimestamp(timestamp)) * 1000, {step:Int64}) * {step:Int64} AS t, r.sum AS x
  FROM airis.samples_1m AS r
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({rollup0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({rollup0_end:Int64}) AND series_id IN (SELECT series_id FROM selected)
) AS p
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
-- rollup0_end = 1790017980000
-- rollup0_start = 1790000040000
-- start = 1790000000000
-- step = 60000
-- tenant = 'default'
