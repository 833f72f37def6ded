WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {group_by:Array(String)}) AS g
  FROM airis.series
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND true
  LIMIT 1 BY series_id
)
SELECT g, intDiv(at, {step:Int64}) * {step:Int64} AS t, sum(increase) / ((least(t + {step:Int64}, {end:Int64}) - greatest(t, {start:Int64})) / 1000) AS v
FROM (
  SELECT g, kind,
         arraySort(point -> point.1, groupArray((toUnixTimestamp64Milli(timestamp), value,
                                                 toUnixTimestamp64Milli(start_time)))) AS points,
         arrayMap(point -> point.1, points) AS times,
         arrayMap(point -> point.2, points) AS numbers,
         arrayMap(point -> point.3, points) AS starts,
         arrayPushFront(arrayPopBack(numbers), nan) AS previous,
         arrayMap((number, before, since) -> multiIf(
             kind IN ('DELTA_COUNTER', 'DELTA_UP_DOWN_COUNTER'), number,
             isNaN(before), if(since >= {start:Int64}, number, 0),
             kind = 'COUNTER' AND number < before, number,
             number - before), numbers, previous, starts) AS increases
  FROM airis.samples INNER JOIN selected USING series_id
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({before:Int64}) AND timestamp < fromUnixTimestamp64Milli({end:Int64}) AND series_id IN (SELECT series_id FROM selected)
  GROUP BY series_id, g, kind
)
ARRAY JOIN times AS at, increases AS increase
WHERE at >= {start:Int64}
GROUP BY g, t
ORDER BY g, t

-- before = 1789999700000
-- end = 1790018000000
-- group_by = ['host']
-- metric = 'cpu'
-- start = 1790000000000
-- step = 60000
-- tenant = 'default'
