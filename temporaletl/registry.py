"""Registry of strategies by name; duplicates are refused."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from temporaletl.errors import ConfigurationError, DuplicateStrategyError, UnknownSourceError

#: Sources are imported when a process starts, and never again.
AFTER_RESTART = "; one that was installed meanwhile is known after a restart of the services"


def place_of(defined: Any) -> str:
    """Module, name and line of a definition, for messages."""
    code = getattr(inspect.unwrap(defined), "__code__", None)
    line = f":{code.co_firstlineno}" if code is not None else ""
    return f"{defined.__module__}.{defined.__qualname__}{line}"


#: In the name of what is registered for a stream: all streams that have none of their own.
ANY_STREAM = "*"


class Registry[T]:
    """A mapping that refuses to be overwritten and explains what it does not know."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[T, str]] = {}

    def register(self, name: str, entry: T, *, place: str) -> None:
        """Add `entry`; `place` says where it is defined, for the error a second one gets.

        Raises:
            DuplicateStrategyError: the name is taken; the message gives both places.
        """
        if name in self._entries:
            raise DuplicateStrategyError(
                f"{self.kind} {name!r} is registered twice: "
                f"in {self._entries[name][1]} and in {place}"
            )
        self._entries[name] = (entry, place)

    def get(self, name: str) -> T:
        """Look up a name.

        Raises:
            UnknownSourceError: nothing has that name; the message lists the names there are.
        """
        try:
            return self._entries[name][0]
        except KeyError:
            known = ", ".join(sorted(self._entries)) or "none"
            raise UnknownSourceError(
                f"no {self.kind} is registered for {name!r}; known: {known}{AFTER_RESTART}"
            ) from None

    def register_for_stream(self, name: str, entry: T, *, place: str) -> None:
        """Add `entry` under `<source>-<stream>`, or `<source>-*`.

        Raises:
            ConfigurationError: the name is not of that form.
            DuplicateStrategyError: as `register`.
        """
        if "-" not in name:
            raise ConfigurationError(f"{self.kind} {name!r} must be named <source>-<stream>")
        self.register(name, entry, place=place)

    def get_for_stream(self, source: str, stream: str) -> T:
        """Look up what a stream has: its own, else that of all the source's streams.

        Raises:
            UnknownSourceError: it has nothing; the message lists the streams that have.
        """
        for name in (f"{source}-{stream}", f"{source}-{ANY_STREAM}"):
            if name in self:
                return self.get(name)
        known = [name for name in self if name.startswith(f"{source}-")]
        raise UnknownSourceError(
            f"no {self.kind} is registered for stream {stream!r} of source {source!r}; "
            f"its streams: {', '.join(known) or 'none'}{AFTER_RESTART}"
        )

    def place(self, name: str) -> str:
        """Where the entry of that name is defined."""
        self.get(name)
        return self._entries[name][1]

    def where(self, holds: Callable[[T], bool]) -> "Registry[T]":
        """The entries for which it holds, as a registry of their own."""
        chosen: Registry[T] = Registry(self.kind)
        chosen._entries = {name: found for name, found in self._entries.items() if holds(found[0])}
        return chosen

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
