#!/bin/sh
# What the image `temporalio/server` starts; that one looks its address up where none is given, and
# finds several in a container of several networks.
set -eu
: "${BIND_ON_IP:?}" "${TEMPORAL_BROADCAST_ADDRESS:?}"
exec temporal-server start
