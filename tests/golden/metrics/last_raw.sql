SELECT []::Array(String) AS g, t, sum(l) AS v
FROM (
  SELECT p.series_id AS series_id, p.t AS t, argMax(p.l, p.lt) AS l
  FROM (
  SELECT series_id, intDiv(toUnixTimestamp64Milli(timestamp), {step:Int64}) * {step:Int64} AS t,
         argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({raw0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw0_end:Int64})
  GROUP BY series_id, t
  ) AS p
  GROUP BY series_id, t
) AS stepped

GROUP BY g, t
ORDER BY g, t

-- end = 1790018000000
-- group_by = []
-- metric = 'cpu'
-- raw0_end = 1790018000000
-- raw0_start = 1790000000000
-- start = 1790000000000
-- step = 5000
-- tenant = 'default'
