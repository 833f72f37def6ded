SELECT ingest_position, toUnixTimestamp64Nano(timestamp) AS time, level, message, service, trace_id, span_id, stack_trace, user_id, request_id, duration_ms, status_code, url, method, labels, metadata_string, metadata_int64, metadata_double, metadata_bool, metadata_encoded
FROM airis.logs
WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({start:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Nano({end:Int64}, 'UTC')
  AND (service = {f0:String} AND level IN {f1:Array(Int64)})
ORDER BY timestamp DESC, ingest_position DESC
LIMIT {limit:UInt32}

-- end = 1790003640000000000
-- f0 = '결제'
-- f1 = [3, 4, 5]
-- limit = 51
-- start = 1790000040000000000
-- tenant = 'default'
