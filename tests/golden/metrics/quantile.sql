WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {group_by:Array(String)}) AS g
  FROM airis.series
  WHERE tenant = {tenant:String} AND metric = {metric:String} AND kind IN {f0:Array(String)}
  LIMIT 1 BY series_id
)
SELECT g, intDiv(toUnixTimestamp64Milli(timestamp), {step:Int64}) * {step:Int64} AS t,
       quantileExactInclusive({quantile:Float64})(value) AS v
FROM airis.samples
INNER JOIN selected USING series_id
WHERE tenant = {tenant:String} AND metric = {metric:String} AND timestamp >= fromUnixTimestamp64Milli({start:Int64}) AND timestamp < fromUnixTimestamp64Milli({end:Int64}) AND series_id IN (SELECT series_id FROM selected)
GROUP BY g, t
ORDER BY g, t

-- end = 1790018000000
-- f0 = ['GAUGE']
-- group_by = []
-- metric = 'cpu'
-- quantile = 0.95
-- start = 1790000000000
-- step = 60000
-- tenant = 'default'
