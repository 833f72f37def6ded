SELECT ingest_position, toUnixTimestamp64Nano(timestamp) AS time, level, message, service, trace_id, span_id, stack_trace, user_id, request_id, duration_ms, status_code, url, method, labels, metadata_string, metadata_int64, metadata_double, metadata_bool, metadata_encoded
FROM airis.logs
WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({start:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Nano({end:Int64}, 'UTC')
  AND hasAllTokens(message, {f0:Array(String)})
  AND (timestamp < fromUnixTimestamp64Nano({after_time:Int64}, 'UTC') OR ingest_position < {after:UInt64})
ORDER BY timestamp DESC, ingest_position DESC
LIMIT {limit:UInt32}

-- after = 117440512
-- after_time = 1790000040000000005
-- end = 1790000040000000006
-- f0 = ['timeout']
-- limit = 51
-- start = 1790000040000000000
-- tenant = 'default'
