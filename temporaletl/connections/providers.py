"""Connections by name: looked up in all places that can declare one.

A provider has the connections of one place. The file of `ETL_CONNECTIONS` is one everywhere;
whoever has a warehouse at hand provides those that are stored there:

    with provided(stored_connections(warehouse)), bound("jira", "acme"):
        site = open_site(JiraSettings.load())

A name stands for one connection: where two places declare it, it is refused, with both named.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from temporaletl.bound_connection import DEFAULT
from temporaletl.connections.entries import Connection, Origin
from temporaletl.connections.file import FileConnections
from temporaletl.errors import ConfigurationError


class UnknownConnectionError(ConfigurationError):
    """There is no such connection of the source."""


class Provider(Protocol):
    """The connections of one place. Its methods may be called from many threads."""

    @property
    def origin(self) -> Origin:
        """What kind of place it is; of each kind, a context has one provider."""

    def is_configured(self) -> bool:
        """Whether there is such a place at all."""

    def place(self) -> str:
        """The place, in messages: a file's path."""

    def names(self) -> Sequence[str]:
        """The names of all connections, in order; raises ConfigurationError where none is known."""

    def get(self, name: str) -> Connection:
        """One of `names`; raises ConfigurationError where something in its declaration is wrong."""

    def absence(self) -> str:
        """Why it has no connection of a name: what it has instead, in words."""


_everywhere: tuple[Provider, ...] = (FileConnections(),)
_here: ContextVar[tuple[Provider, ...]] = ContextVar("connection_providers", default=())


@contextmanager
def provided(provider: Provider | None) -> Iterator[None]:
    """Know a provider's connections in this context, and no other's of the same origin.

    Tasks and threads that are started in it know them, too, as with `connections.bound`. None
    provides nothing more.
    """
    if provider is None:
        yield
        return
    others = [known for known in _here.get() if known.origin != provider.origin]
    token = _here.set((*others, provider))
    try:
        yield
    finally:
        _here.reset(token)


def _providers() -> tuple[Provider, ...]:
    return (*_everywhere, *_here.get())


def has_connections() -> bool:
    """Whether there can be connections beside `default`."""
    return any(provider.is_configured() for provider in _providers())


def _holders(name: str) -> list[Provider]:
    return [provider for provider in _providers() if name in provider.names()]


def _get(name: str, holders: Sequence[Provider]) -> Connection:
    if len(holders) > 1:
        places = " and in ".join(provider.place() for provider in holders)
        raise ConfigurationError(
            f"connection {name!r} is declared in {places}: one of them must go, or get another name"
        )
    return holders[0].get(name)


def find_connection(source: str, name: str) -> Connection | None:
    """A connection of a source; None for `default`, which is the environment.

    The sources must be imported before.

    Raises:
        UnknownConnectionError: nothing declares such a connection, or it is of another source.
        ConfigurationError: a place cannot be read, the declaration is wrong, or there are two;
            names the place, the connection and the key, and prints no value.
    """
    if name == DEFAULT:
        return None
    holders = _holders(name)
    if not holders:
        raise UnknownConnectionError(_absent(name))
    found = _get(name, holders)
    if found.source != source:
        raise UnknownConnectionError(
            f"{found.what} is one of source {found.source!r}, not of {source!r}"
        )
    return found


def _absent(name: str) -> str:
    configured = [provider for provider in _providers() if provider.is_configured()]
    if not configured:
        return f"there is no connection {name!r}: {_everywhere[0].absence()}"
    return "; ".join(
        f"{provider.place()} has no connection {name!r}; {provider.absence()}"
        for provider in configured
    )


def read_entries() -> list[tuple[str, Connection | ConfigurationError]]:
    """The declared connections by name: each, or what is wrong with it.

    Raises:
        ConfigurationError: a place as a whole cannot be read.
    """
    found: list[tuple[str, Connection | ConfigurationError]] = []
    for name in sorted({name for provider in _providers() for name in provider.names()}):
        try:
            found.append((name, _get(name, _holders(name))))
        except ConfigurationError as error:
            found.append((name, error))
    return found


def load_connections() -> list[Connection]:
    """All declared connections, by name.

    Raises:
        ConfigurationError: as `find_connection`, for the first that is wrong.
    """
    found = []
    for _, entry in read_entries():
        if isinstance(entry, ConfigurationError):
            raise entry
        found.append(entry)
    return found


def names_of_connections(source: str) -> list[str]:
    """The connections of a source, `default` first, without those whose declaration is wrong.

    Raises:
        ConfigurationError: as `read_entries`.
    """
    entries = [entry for _, entry in read_entries() if isinstance(entry, Connection)]
    return [DEFAULT, *(entry.name for entry in entries if entry.source == source)]
