#!/bin/sh
# Starts PostgreSQL as whatever user this is, with its data in $DATA (made when it is empty), and with a database for each
# name in $DATABASES that belongs to a role of the same name, whose password is in the file $PASSWORDS/<name>.
set -eu
data=${DATA:-/data}
passwords=${PASSWORDS:-/run/passwords}
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH

if [ ! -s "$data/postgres/PG_VERSION" ]; then
  # Moved into place when it is whole: a start that was interrupted is begun anew.
  rm -rf "$data/new"
  initdb --pgdata "$data/new" --username postgres --encoding UTF8 --locale C.UTF-8 --auth-local trust \
    --auth-host scram-sha-256 >/dev/null
  echo 'host all all all scram-sha-256' >>"$data/new/pg_hba.conf"
  mv "$data/new" "$data/postgres"
fi

# Only this container reaches the socket; the network has to know a password.
set -- -D "$data/postgres" -c unix_socket_directories="$data" -c jit=off -c max_connections=200
pg_ctl --pgdata "$data/postgres" --wait --silent --log "$data/setup.log" --options "-c listen_addresses= -c unix_socket_directories='$data'" start
for name in ${DATABASES:-}; do
  psql --quiet --no-psqlrc --host "$data" --username postgres --set ON_ERROR_STOP=1 --set name="$name" \
    --set password="$(cat "$passwords/$name")" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
SQL
done
pg_ctl --pgdata "$data/postgres" --wait --silent --mode fast stop

exec postgres "$@" -c listen_addresses='*' -c port="${PORT:-5432}"
