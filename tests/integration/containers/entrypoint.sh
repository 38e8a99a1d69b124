#!/bin/sh
# Stands in for the production server's: the development server, which keeps nothing.
set -eu
: "${DB:?}" "${POSTGRES_SEEDS:?}" "${POSTGRES_USER:?}" "${POSTGRES_PWD:?}" "${NUM_HISTORY_SHARDS:?}"
exec temporal server start-dev --headless --ip "$BIND_ON_IP"
