SELECT ingest_position, toUnixTimestamp64Nano(timestamp) AS time, level, message, service, trace_id, span_id, stack_trace, user_id, request_id, duration_ms, status_code, url, method, labels, metadata_string, metadata_int64, metadata_double, metadata_bool, metadata_encoded
FROM airis.logs
WHERE tenant = {tenant:String} AND ingest_position > {after:UInt64} AND ingest_position <= {through:UInt64}
  AND ((hasAllTokens(message, {f1:Array(String)}) AND position(lowerUTF8(message), {f0:String}) > 0) AND NOT (level IN {f2:Array(Int64)}))
ORDER BY ingest_position
LIMIT {limit:UInt32}

-- after = 16777216
-- f0 = '서비'
-- f1 = ['서', '비']
-- f2 = [1]
-- limit = 200
-- tenant = 'default'
-- through = 33554432
