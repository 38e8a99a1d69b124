"""Planning of source `pipeline`: one job for each run, as the node that started it asks."""

from collections.abc import Iterator
from datetime import timedelta

from temporaletl import ETLInput, Plan, Window, params_method, transform_inputs_method
from temporaletl.names import PIPELINE as SOURCE

STREAM = "rows"


@params_method(SOURCE, streams=(STREAM,), lag=timedelta(0), filters=(), listed=False)
def describe(_plan: Plan) -> None:
    """Nothing: the rows are in the warehouse."""


@transform_inputs_method(SOURCE)
def jobs(plan: Plan, _backlog: None) -> Iterator[ETLInput]:
    """Plan one job, without a window: what an execution gives is no slice of time."""
    yield plan.job(STREAM, Window())
