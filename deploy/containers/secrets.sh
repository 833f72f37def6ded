#!/bin/sh
# Makes the passwords of the servers, once: `sh deploy/containers/secrets.sh [folder]`. What is there stays.
#
# The folder is for its owner only; its files are readable, as Compose mounts them with the rights that they have here,
# and each server runs as a user of its own.
set -eu
umask 077
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

# 48 hexadecimal digits: they need no quoting in any of the files.
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
write() {
  cat > "$folder/$1.new"
  chmod 444 "$folder/$1.new"
  mv -f "$folder/$1.new" "$folder/$1"
}
missing() { [ ! -s "$folder/$1" ]; }

for name in postgres_password redis_password clickhouse_password elasticsearch_password mesh_token; do
  if missing "$name"; then random | write "$name"; fi
done
# What follows from the passwords, in the forms that its readers want.
printf 'postgresql://airis:%s@postgres:5432/airis' "$(cat "$folder/postgres_password")" | write postgres_dsn
printf 'redis://:%s@redis:6379/0' "$(cat "$folder/redis_password")" | write redis_url
printf 'requirepass %s\n' "$(cat "$folder/redis_password")" | write redis_auth
write clickhouse_users <<EOF
<clickhouse>
  <users>
    <default remove="remove"/>
    <airis>
      <password>$(cat "$folder/clickhouse_password")</password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </airis>
  </users>
</clickhouse>
EOF
echo "The passwords are in $folder."
