#!/usr/bin/env bash
# Starts one service in the foreground, for containers: scripts/start-worker.sh [worker|queuer]
set -euo pipefail
service=${1:-worker}
case $service in
    worker | queuer) ;;
    *)
        echo "usage: ${0##*/} [worker|queuer]" >&2
        exit 2
        ;;
esac
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
[[ -x $python ]] || python=python3
exec "$python" -m "$service"
