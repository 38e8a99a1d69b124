"""Connections: the one in use, bound to the context, and the settings that one may give.

A connection is a name, a source, settings under the names that the source's settings have, and
where its secrets are. `default` is the environment; the others are in a file or in the warehouse,
see `temporaletl.connections.providers`. Whoever works for a connection binds it, and the source's
settings are then those of that connection alone:

    with bound("jira", "acme"):
        site = open_site(JiraSettings.load())
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporaletl.connections.source_settings import SourceSettings

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


@dataclass(slots=True)
class Declaration:
    """The settings that a connection of one source may give."""

    classes: "list[type[SourceSettings]]" = field(default_factory=list)
    #: Patterns of names that the source reads in another way than by a settings class.
    names: set[str] = field(default_factory=set)
    secret_names: set[str] = field(default_factory=set)
    #: A settings class that can be read from the environment alone: no connection can give it.
    unfit: str | None = None

    def reads(self, wanted: "type[SourceSettings]") -> bool:
        """Whether the class, or a subclass of it, is declared."""
        return any(issubclass(known, wanted) for known in self.classes)

    def takes_name(self, name: str) -> bool:
        """Whether a connection may give a name that no settings class has."""
        return any(fnmatchcase(name, pattern) for pattern in self.names | self.secret_names)

    def is_secret_name(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.secret_names)


_declared: dict[str, Declaration] = {}


def connection_settings(
    source: str,
    *classes: "type[SourceSettings]",
    names: Iterable[str] = (),
    secret_names: Iterable[str] = (),
) -> None:
    """Declare which settings a connection of the source may give. Safe to repeat.

    A source whose `params_method` has `settings=ShopSettings.load`, or whose `rate_budget`
    is a method of its settings, has declared that class. What else it reads, as the settings of
    another server beside its own, it declares in a module that both services import:

        connection_settings("jira", JiraSettings, TrinoSettings)

    `names` and `secret_names` may hold `*`: variables that are read without a settings class.
    """
    known = _declared.setdefault(source, Declaration())
    known.classes += [cls for cls in classes if cls not in known.classes]
    known.names.update(names)
    known.secret_names.update(secret_names)


def declare_owner(source: str, function: object) -> None:
    """Declare the source, and the settings class that a function is a method of, if it is one."""
    connection_settings(source)
    owner = getattr(function, "__self__", None)
    if not isinstance(owner, type):
        return
    if getattr(owner, "of_source", False):
        connection_settings(source, owner)
    else:
        _declared[source].unfit = owner.__name__


def declaration_of(source: str) -> Declaration | None:
    """The declaration of a source's settings; None where the source is not known here."""
    return _declared.get(source)


def known_sources() -> list[str]:
    """The sources of which there can be connections."""
    return sorted(_declared)
