SELECT ingest_position, toUnixTimestamp64Nano(timestamp) AS time, level, message, service, trace_id, span_id, stack_trace, user_id, request_id, duration_ms, status_code, url, method, labels, metadata_string, metadata_int64, metadata_double, metadata_bool, metadata_encoded
FROM airis.logs
WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({start:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Nano({end:Int64}, 'UTC')
  AND true
  AND ((ingest_position > {after0:UInt64} AND ingest_position <= {through0:UInt64}))
ORDER BY timestamp DESC, ingest_position DESC
LIMIT {limit:UInt32}

-- after0 = 0
-- end = 1790003640000000000
-- limit = 10
-- start = 1790000040000000000
-- tenant = 'default'
-- through0 = 2359296
