SELECT substringUTF8(message, 1, {characters:UInt32}) AS text, level, toString(service) AS writer
FROM airis.logs
WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({start:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Nano({end:Int64}, 'UTC')
  AND level IN {f0:Array(Int64)}
ORDER BY timestamp DESC, ingest_position DESC
LIMIT {limit:UInt32}

-- characters = 1000
-- end = 1790003640000000000
-- f0 = [4]
-- limit = 10000
-- start = 1790000040000000000
-- tenant = 'default'
