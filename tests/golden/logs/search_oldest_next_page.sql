SELECT ingest_position, toUnixTimestamp64Nano(timestamp) AS time, level, message, service, trace_id, span_id, stack_trace, user_id, request_id, duration_ms, status_code, url, method, labels, metadata_string, metadata_int64, metadata_double, metadata_bool, metadata_encoded
FROM airis.logs
WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({start:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Nano({end:Int64}, 'UTC')
  AND ((metadata_int64[{f0:String}] = {f1:Int64} OR metadata_double[{f0:String}] = {f2:Int64}) AND NOT (labels[{f3:String}] = {f4:String}))
  AND (timestamp > fromUnixTimestamp64Nano({after_time:Int64}, 'UTC') OR ingest_position > {after:UInt64})
ORDER BY timestamp ASC, ingest_position ASC
LIMIT {limit:UInt32}

-- after = 117440512
-- after_time = 1790000040000000005
-- end = 1790003640000000000
-- f0 = 'code'
-- f1 = 5
-- f2 = 5
-- f3 = 'env'
-- f4 = 'dev'
-- limit = 51
-- start = 1790000040000000005
-- tenant = 'default'
