#!/bin/sh
# What the image `postgres` does of itself: a cluster in an empty folder, then the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 700 "$PGDATA"
    initdb --locale C.UTF-8 --encoding UTF8 --auth-host scram-sha-256 \
        --username "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \"${POSTGRES_DB:-$POSTGRES_USER}\"" |
        postgres --single -j postgres
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
