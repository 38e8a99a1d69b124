"""Engine: runs batches in this process, without Temporal, by the functions of both services.

    from temporaletl.engine.batch import run_batch

    summary = await run_batch(warehouse, "jira", mode="full")

What Temporal would remember, the ledger does: a batch that is killed is closed by the next run,
which loads what is missing. What goes through Temporal, retries and time-outs for one, happens
here by the same rules.

This package imports nothing: who only starts an engine's process does without what it runs.
"""
