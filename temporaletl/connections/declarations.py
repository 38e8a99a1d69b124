"""Declarations of sources: the settings that a connection of each may give.

connection_settings("jira", JiraSettings, TrinoSettings)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporaletl.settings.environment import Settings


@dataclass(slots=True)
class Declaration:
    """The settings that a connection of one source may give."""

    classes: "list[type[Settings]]" = field(default_factory=list)
    #: Patterns of names that the source reads in another way than by a settings class.
    names: set[str] = field(default_factory=set)
    secret_names: set[str] = field(default_factory=set)
    #: A settings class that can be read from the environment alone: no connection can give it.
    unfit: str | None = None

    def reads(self, wanted: "type[Settings]") -> bool:
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
    *classes: "type[Settings]",
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
