SELECT ingest_position, toUnixTimestamp64Nano(timestamp) AS time, level, message, service, trace_id, span_id, stack_trace, user_id, request_id, duration_ms, status_code, url, method, labels, metadata_string, metadata_int64, metadata_double, metadata_bool, metadata_encoded
FROM airis.logs
WHERE tenant = {tenant:String} AND ((ingest_position > {after0:UInt64} AND ingest_position <= {through0:UInt64}) OR (ingest_position > {after1:UInt64} AND ingest_position <= {through1:UInt64}))
  AND (hasAllTokens(if(isValidASCII(message), '', translate(lowerUTF8(message), '!"#$%&\'()*+,-./0123456789:;<=>?@[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~', '                                                                    ')), {f0:Array(String)}, 'ngrams(2)') AND NOT (level IN {f1:Array(Int64)}))
ORDER BY ingest_position
LIMIT {limit:UInt32}

-- after0 = 1
-- after1 = 9
-- f0 = ['서비']
-- f1 = [1]
-- limit = 200
-- tenant = 'default'
-- through0 = 2
-- through1 = 12
