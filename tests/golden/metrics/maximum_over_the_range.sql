SELECT []::Array(String) AS g, t, max(mx) AS v
FROM (
  SELECT p.series_id AS series_id, p.t AS t, sum(p.s) AS s, sum(p.c) AS c, min(p.mn) AS mn, max(p.mx) AS mx,
         argMax(p.l, p.lt) AS l
  FROM (
  SELECT series_id, {start:Int64} AS t, sum(value) AS s, count() AS c,
         min(value) AS mn, max(value) AS mx, argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({raw0_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw0_end:Int64})
  GROUP BY series_id, t
  UNION ALL
  SELECT series_id, {start:Int64} AS t, sum(value) AS s, count() AS c,
         min(value) AS mn, max(value) AS mx, argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({raw1_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({raw1_end:Int64})
  GROUP BY series_id, t
  UNION ALL
  SELECT series_id, {start:Int64} AS t, sum(r.sum) AS s, sum(r.count) AS c,
         min(r.min) AS mn, max(r.max) AS mx, argMaxMerge(r.last) AS l,
         max(toDateTime64(timestamp, 3, 'UTC')) AS lt
  FROM airis.samples_1h AS r
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({rollup_start:Int64}) AND timestamp < fromUnixTimestamp64Milli({rollup_end:Int64})
  GROUP BY series_id, t
  ) AS p
  GROUP BY series_id, t
) AS stepped

GROUP BY g, t
ORDER BY g, t

-- end = 1790018000000
-- group_by = []
-- metric = 'cpu'
-- raw0_end = 1790002800000
-- raw0_start = 1790000000000
-- raw1_end = 1790018000000
-- raw1_start = 1790017200000
-- rollup_end = 1790017200000
-- rollup_start = 1790002800000
-- start = 1790000000000
-- step = 0
-- tenant = 'default'
