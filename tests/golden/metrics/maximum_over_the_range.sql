SELECT []::Array(String) AS g, t, max(x) AS v
FROM (
  SELECT series_id, {start:Int64} AS t, value AS x
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND ((timestamp >= fromUnixTimestamp64Milli({raw0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw0_end:Int64})) OR (timestamp >= fromUnixTimestamp64Milli({raw1_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw1_end:Int64})))
  UNION ALL
  SELECT series_id, {start:Int64} AS t, r.max AS x
  FROM airis.samples_1h AS r
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({rollup0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({rollup0_end:Int64})
) AS p

GROUP BY g, t
ORDER BY g, t

-- end = 1790018000000
-- group_by = []
-- metric = 'cpu'
-- raw0_end = 1790002800000
-- raw0_start = 1790000000000
-- raw1_end = 1790018000000
-- raw1_start = 1790017200000
-- rollup0_end = 1790017200000
-- rollup0_start = 1790002800000
-- start = 1790000000000
-- step = 0
-- tenant = 'default'
