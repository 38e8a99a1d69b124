"""Planning of simple sources: each window of a stream is one job."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from temporaletl.budget import RateBudget
from temporaletl.external.rest.api import RestSettings, open_api
from temporaletl.external.rest.narrowing import reread
from temporaletl.extraction import PageRequest
from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rereading import Reread, Unread, reread_method
from temporaletl.strategies import Plan, params_method, rate_budget, transform_inputs_method


def rest_source[S: RestSettings](
    source: str,
    *,
    streams: Sequence[str],
    overlap: timedelta = timedelta(minutes=5),
    lag: timedelta = timedelta(seconds=30),
) -> Callable[[type[S]], type[S]]:
    """Register, beside its settings, a simple source's planning, rate budget and second readings.

    Each stream's window is one job, which its paginator goes through from cursor to cursor. A
    source that can count or divide what there is registers its own `params_method` and
    `transform_inputs_method` instead.
    """

    def register(settings: type[S]) -> type[S]:
        def describe(plan: Plan) -> Plan:
            return plan

        def expand(plan: Plan, _: Plan) -> Iterator[ETLInput]:
            for stream, window in plan.windows.items():
                if window.start is None or window.start != window.end:
                    yield plan.job(stream, window)

        def budget() -> RateBudget:
            return settings.budget()

        async def read_again(unread: Unread, _: PageRequest[Query]) -> Reread | None:
            return await reread(open_api(source, settings.load()), unread)

        for function in (describe, expand, budget, read_again):
            # Whoever looks for the source shall find its author's module, not this one.
            function.__module__ = settings.__module__
            function.__qualname__ = settings.__qualname__
        params_method(source, streams=streams, overlap=overlap, lag=lag, settings=settings.load)(
            describe
        )
        transform_inputs_method(source)(expand)
        rate_budget(source)(budget)
        for stream in streams:
            reread_method(f"{source}-{stream}")(read_again)
        return settings

    return register
