#!/bin/sh
# Starts Redis as whatever user this is, with its data in $DATA, and with the password in the file $PASSWORD_FILE if that
# is set.
set -eu
data=${DATA:-/data}
umask 077
# By a file, since everybody can read the arguments of a process.
cat >"$data/redis.conf" <<CONF
dir $data
bind * -::*
port ${PORT:-6379}
protected-mode no
appendonly yes
CONF
if [ -n "${PASSWORD_FILE:-}" ]; then printf 'requirepass "%s"\n' "$(cat "$PASSWORD_FILE")" >>"$data/redis.conf"; fi
exec redis-server "$data/redis.conf"
