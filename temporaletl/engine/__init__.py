"""Engine: runs batches in this process, without Temporal, by the functions of both services.

    summary = await run_batch(warehouse, "jira", mode="full")

What Temporal would remember, the ledger does: a batch that is killed is closed by the next run,
which loads what is missing. What goes through Temporal, retries and time-outs for one, happens
here by the same rules.
"""

from temporaletl.engine.batch import run_batch
from temporaletl.engine.limits import EngineLimits
from temporaletl.engine.listener import Listener

__all__ = ["EngineLimits", "Listener", "run_batch"]
