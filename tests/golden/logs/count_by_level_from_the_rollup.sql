SELECT [toString(k0), toString(k1)] AS g, sum(c) AS n,
       arraySort(groupArray((t, c))) AS buckets, sum(n) OVER () AS total
FROM (
  SELECT k0, k1, t, sum(part) AS c
  FROM (
    SELECT level AS k0, service AS k1, intDiv(toInt64(toUnixTimestamp(timestamp)) * 1000000000, {step:Int64}) * {step:Int64} AS t, sum(count) AS part
    FROM airis.logs_1m
    WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({part0_start:Int64}, 'UTC')
      AND timestamp < fromUnixTimestamp64Nano({part0_end:Int64}, 'UTC') AND service = {f0:String}
    GROUP BY ALL
  )
  GROUP BY ALL
)
GROUP BY g
ORDER BY n DESC, g
LIMIT {groups:UInt32}

-- f0 = 'a'
-- groups = 1000
-- part0_end = 1790003640000000000
-- part0_start = 1790000040000000000
-- step = 60000000000
-- tenant = 'default'
