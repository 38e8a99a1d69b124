"""Sources of the platform's own, whose jobs find their strategies by what the warehouse has."""

from collections.abc import Callable

from temporaletl.messages import ETLInput
from temporaletl.registry import Registry, place_of
from temporaletl.strategies import Strategies
from temporaletl.warehouse.connection import Warehouse

#: Finds the strategies of one job, by what the warehouse has for it.
type StrategiesMethod = Callable[[Warehouse, ETLInput], Strategies]
own_strategies: Registry[StrategiesMethod] = Registry("strategies method")


def strategies_method[F: StrategiesMethod](source: str) -> Callable[[F], F]:
    """Register a function of the warehouse and a job, in place of the worker's other decorators.

    For a source whose records are in the warehouse, and whose tables only its jobs name. Blocks.
    """

    def register(function: F) -> F:
        own_strategies.register(source, function, place=place_of(function))
        return function

    return register
