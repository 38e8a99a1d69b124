"""Engine: runs batches in this process, without Temporal, by the functions of both services.

    summary = await run_batch(warehouse, "jira", mode="full")

What Temporal would remember, the ledger does: a batch that is killed is closed by the next run,
which loads what is missing. What goes through Temporal, retries and time-outs for one, happens
here by the same rules.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporaletl.engine.batch import run_batch
    from temporaletl.engine.limits import EngineLimits
    from temporaletl.engine.listener import Listener
else:
    _MODULES = {"EngineLimits": "limits", "Listener": "listener", "run_batch": "batch"}

    def __getattr__(name: str) -> object:
        """Import a name on first use: who only starts an engine's process needs none."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = ["EngineLimits", "Listener", "run_batch"]
