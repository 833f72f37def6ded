WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {group_by:Array(String)}) AS g
  FROM airis.series
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND true
  LIMIT 1 BY series_id
)
SELECT g, t, sum(x) / sum(n) AS v
FROM (
  SELECT series_id, intDiv(toUnixTimestamp64Milli(timestamp), {step:Int64}) * {step:Int64} AS t, value AS x, 1 AS n
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND ((timestamp >= fromUnixTimestamp64Milli({raw0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw0_end:Int64})) OR (timestamp >= fromUnixTimestamp64Milli({raw1_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw1_end:Int64})))
  UNION ALL
  SELECT series_id, intDiv(toInt64(toUnixTimestamp(timestamp)) * 1000, {step:Int64}) * {step:Int64} AS t, r.sum AS x, r.count AS n
  FROM airis.samples_1h AS r
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({rollup0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({rollup0_end:Int64})
) AS p
INNER JOIN selected USING series_id
GROUP BY g, t
ORDER BY g, t

-- end = 1790018000000
-- group_by = ['host']
-- metric = 'cpu'
-- raw0_end = 1790002800000
-- raw0_start = 1790000000000
-- raw1_end = 1790018000000
-- raw1_start = 1790017200000
-- rollup0_end = 1790017200000
-- rollup0_start = 1790002800000
-- start = 1790000000000
-- step = 3600000
-- tenant = 'default'
