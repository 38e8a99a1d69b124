"""What stands for each operation over the API, one module for each noun.

`remote` finds it: importing this package registers all of them.
"""

from temporaletl.control.client.calls import (
    access,
    connections,
    executions,
    identities,
    pipelines,
    rejects,
    runs,
    schedules,
    sources,
    state,
    watch,
)
from temporaletl.control.client.operations import remote

__all__ = [
    "access",
    "connections",
    "executions",
    "identities",
    "pipelines",
    "rejects",
    "remote",
    "runs",
    "schedules",
    "sources",
    "state",
    "watch",
]
