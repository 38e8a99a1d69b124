"""The connection in use, bound to the context.

A connection is a name, a source, settings under the names that the source's settings have, and
where its secrets are. `default` is the environment; the others are in a file or in the warehouse,
see `temporaletl.connections.providers`. Whoever works for a connection binds it, and the source's
settings are then those of that connection alone:

    with bound("jira", "acme"):
        site = open_site(JiraSettings.load())
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

#: The connection whose settings are the environment's.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Binding:
    """A connection that is bound to the present context."""

    source: str
    connection: str


_binding: ContextVar[Binding | None] = ContextVar("connection", default=None)


@contextmanager
def bound(source: str, connection: str) -> Iterator[None]:
    """Bind a connection to this context: settings of sources that are read in it are its own.

    Tasks belong to the context, and threads that are started with it, as `asyncio.to_thread` and
    `temporaletl.external.threads` do. Not for the body of an asynchronous generator, whose context
    is its reader's.
    """
    token = _binding.set(Binding(source, connection))
    try:
        yield
    finally:
        _binding.reset(token)


def binding() -> Binding | None:
    """The connection that is bound to the present context; None for none."""
    return _binding.get()


def connection_in_use() -> str:
    """The name of the bound connection, `default` where none is."""
    found = _binding.get()
    return DEFAULT if found is None else found.connection
