WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {group_by:Array(String)}) AS g
  FROM airis.series
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND true
  LIMIT 1 BY series_id
)
SELECT g, intDiv(at, {step:Int64}) * {step:Int64} AS t, sum(increase) / ((least(t + {step:Int64}, {end:Int64}) - greatest(t, {start:Int64})) / 1000) AS v
FROM (
  SELECT g, times,
         arrayMap((number, before) -> multiIf(
             kind IN ('DELTA_COUNTER', 'DELTA_UP_DOWN_COUNTER'), number,
             isNaN(before), if(since >= {start:Int64}, number, 0),
             kind = 'COUNTER' AND number < before, number,
             number - before), numbers, arrayPushFront(arrayPopBack(numbers), nan)) AS increases
  FROM (
    SELECT series_id, groupArray(toUnixTimestamp64Milli(timestamp)) AS found_times, groupArray(value) AS found_numbers,
           arraySort(found_times) AS times, arraySort((number, at) -> at, found_numbers, found_times) AS numbers,
           argMin(toUnixTimestamp64Milli(start_time), timestamp) AS since
    FROM airis.samples
    WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({before:Int64}) AND timestamp < fromUnixTimestamp64Milli({end:Int64})
    GROUP BY series_id
  ) AS p
  INNER JOIN selected USING series_id
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
