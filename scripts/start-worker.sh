#!/usr/bin/env bash
# Runs one service in the foreground, as a container's first process:
# start-worker.sh [worker|queuer|api [OPTION ...]]; without an argument, the one that
# TEMPORALETL_SERVICE names. Options are the service's own.
#
# A first process ignores SIGTERM until it has a handler, and Python takes a second or more to have
# one: this script takes the signal from its first line on and passes it on. A service that was
# stopped ends with 0, whether it had begun or not.
set -euo pipefail

service=
signals=0
stop() {
    signals=$((signals + 1))
    [[ -z $service ]] || kill -TERM "$service" 2>/dev/null || true
}
trap stop TERM INT

name=${1:-${TEMPORALETL_SERVICE:-worker}}
cd -- "${BASH_SOURCE[0]%/*}/.."
python=.venv/bin/python
[[ -x $python ]] || python=python3
case $name in
    worker | queuer) command=("$python" -m "temporaletl.$name") ;;
    api) command=("$python" -m temporaletl.control.cli serve) ;;
    *)
        printf 'usage: %s [worker|queuer|api]\n' "${0##*/}" >&2
        exit 2
        ;;
esac

# Canonical's temporal-worker charm gives its configuration as TWC_NAME, and once more as
# TEMPORAL_NAME, where TEMPORAL_QUEUE means another queue than ours.
for variable in "${!TWC_@}"; do
    unset "TEMPORAL_${variable#TWC_}"
done
# Gives the setting $1 the value of the charm's $2 where that has one and the setting none.
take() { [[ -n ${!1:-} || -z ${!2:-} ]] || export "$1=${!2}"; }
take TEMPORAL_ADDRESS TWC_HOST
take TEMPORAL_NAMESPACE TWC_NAMESPACE
take TEMPORAL_TLS_SERVER_CA_CERT_DATA TWC_TLS_ROOT_CAS
take ETL_METRICS_PORT TWC_PROMETHEUS_PORT
[[ -z ${TWC_PROMETHEUS_PORT:-} ]] || export ETL_METRICS_HOST="${ETL_METRICS_HOST:-0.0.0.0}"
case $name in
    worker) take TEMPORAL_ETL_QUEUE TWC_QUEUE ;;
    queuer) take TEMPORAL_QUEUE TWC_QUEUE ;;
esac
if [[ -n ${TWC_ENCRYPTION_KEY:-} && -z ${ETL_PAYLOAD_KEYS:-}${ETL_PAYLOAD_KEYS_FILE:-} ]]; then
    # The charm's key has no id; an id stands for one key, so that it is made of the key.
    digest=$(printf %s "$TWC_ENCRYPTION_KEY" | sha256sum)
    export ETL_PAYLOAD_KEYS="twc-${digest:0:12}:$TWC_ENCRYPTION_KEY"
fi

((signals == 0)) || exit 0
"${command[@]}" "${@:2}" &
service=$!
((signals == 0)) || stop
# `wait` also returns when a signal has come: then the service may still be at its last page. No
# further signal may interrupt the second `wait`: what the service ended with could be lost.
before=$signals status=0
wait "$service" || status=$?
if ((signals != before)); then
    trap '' TERM INT
    status=0
    wait "$service" || status=$?
fi
# Ended by the signal itself: it had not begun, and so had nothing to finish.
((signals == 0 || status != 143)) || status=0
exit "$status"
