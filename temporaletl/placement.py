"""Where a source's strategies are defined: each service imports only its own modules.

The queuer imports `temporaletl.queuer.sources`, the worker `temporaletl.worker.sources`; a package
with the entry point is imported by both.
"""

from collections.abc import Iterator
from typing import Any

from temporaletl.errors import StrategyImportError
from temporaletl.own_strategies import own_strategies
from temporaletl.registry import Registry
from temporaletl.strategies import (
    expanders,
    extractors,
    planners,
    queries,
    transformers,
)

_QUEUER, _WORKER = "queuer", "worker"
_OF_SERVICE: dict[str, tuple[Registry[Any], ...]] = {
    _QUEUER: (planners, expanders),
    _WORKER: (queries, extractors, transformers, own_strategies),
}


def check_placement(source: str) -> None:
    """Check that no strategy is where the service that needs it never looks.

    Raises:
        StrategyImportError: one is; names its module, and the one where it belongs.
    """
    for service, other in ((_QUEUER, _WORKER), (_WORKER, _QUEUER)):
        for registry in _OF_SERVICE[service]:
            for place in _places(registry, source):
                if (module := _module_below(place, other)) is not None:
                    raise StrategyImportError(
                        f"source {source!r}: its {registry.kind} is in {module}, which only the "
                        f"{other} imports: it belongs in {module.replace(other, service, 1)}; a "
                        f"source in one module is a package of its own (`etl new-source NAME "
                        f"--wheel`), which both services import"
                    )


def check_halves(source: str) -> None:
    """Check that both services know a source, once the modules of both are imported.

    Raises:
        StrategyImportError: one of them does not; names the other's module.
    """
    check_placement(source)
    for service, other in ((_QUEUER, _WORKER), (_WORKER, _QUEUER)):
        known = [place for r in _OF_SERVICE[other] for place in _places(r, source)]
        module = next((m for place in known if (m := _module_below(place, other))), None)
        missing = [r.kind for r in _OF_SERVICE[service] if not any(_places(r, source))]
        if module is not None and len(missing) == len(_OF_SERVICE[service]):
            raise StrategyImportError(
                f"source {source!r} is known to the {other} alone, by {module}: for the "
                f"{service}, {module.replace(other, service, 1)} must register its "
                f"{' and '.join(missing)}"
            )


def _places(registry: Registry[Any], source: str) -> Iterator[str]:
    for name in registry:
        if name == source or name.startswith(f"{source}-"):
            yield registry.place(name)


def _module_below(place: str, service: str) -> str | None:
    """The module of a service's sources that a place is in: `temporaletl.queuer.sources.shop`."""
    prefix = f"temporaletl.{service}.sources."
    if not place.startswith(prefix):
        return None
    return prefix + place.removeprefix(prefix).partition(".")[0]
