#!/bin/sh
# Starts Elasticsearch with the password of the user `elastic` from a file, or asks it for its health ("check").
set -eu
password=$(cat /run/secrets/elasticsearch_password)
if [ "${1:-}" = check ]; then
  # By standard input: arguments can be seen by others.
  printf 'user = "elastic:%s"\n' "$password" | exec curl --config - --fail --silent --show-error --max-time 6 \
    --output /dev/null "http://127.0.0.1:9200/_cluster/health?wait_for_status=yellow&timeout=5s"
fi
# It sets the password at the first start of its data.
export ELASTIC_PASSWORD="$password"
exec /usr/local/bin/docker-entrypoint.sh eswrapper
