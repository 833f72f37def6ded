SELECT [toString(k0), toString(k1)] AS g, sum(c) AS n,
       arraySort(groupArray((t, c))) AS buckets, sum(n) OVER () AS total
FROM (
  SELECT k0, k1, t, sum(part) AS c
  FROM (
    SELECT labels[{group0:String}] AS k0, service AS k1, intDiv(toUnixTimestamp64Nano(timestamp), {step:Int64}) * {step:Int64} AS t, count() AS part
    FROM airis.logs
    WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({part0_start:Int64}, 'UTC')
      AND timestamp < fromUnixTimestamp64Nano({part0_end:Int64}, 'UTC') AND hasAllTokens(message, {f0:Array(String)})
    GROUP BY ALL
  )
  GROUP BY ALL
)
GROUP BY g
ORDER BY n DESC, g
LIMIT {groups:UInt32}

-- f0 = ['refused']
-- group0 = 'k8s.pod'
-- groups = 1000
-- part0_end = 1790003640000000000
-- part0_start = 1790000040000000000
-- step = 1000000000
-- tenant = 'default'
