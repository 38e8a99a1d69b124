"""Declared connections: those of the environment, the file and the warehouse, as seen last."""

from dataclasses import dataclass
from functools import partial

from temporaletl.control.operations.connections import (
    ConnectionReport,
    list_connections,
    list_environment,
)
from temporaletl.control.web.visit import Visit


@dataclass(frozen=True, slots=True)
class Declared:
    """The connections that are declared; `unread` says why those of the warehouse are not there."""

    connections: list[ConnectionReport]
    unread: str | None

    def find(self, source: str, name: str) -> ConnectionReport | None:
        """The connection of that source and name; None where there is none."""
        whose = source, name
        return next((one for one in self.connections if (one.source, one.name) == whose), None)

    def has(self, source: str, name: str) -> bool:
        """Whether there is such a connection, as far as can be known."""
        # The source of a declaration that cannot be read is not known.
        return self.unread is not None or any(
            (one.source or source, one.name) == (source, name) for one in self.connections
        )


async def see_declared(visit: Visit) -> Declared:
    """The declared connections, those of the environment last.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
        ETLError, TimeoutError: as `Sights.see`.
    """
    sights = visit.dashboard.sights
    listed = await sights.see("connections", partial(list_connections, visit.context.platform))
    environment = await sights.see("environment", list_environment)
    known = sorted(listed.value.connections, key=lambda one: (one.source or "", one.name))
    return Declared([*known, *environment.value], listed.value.unread)
