"""Account views: the account behind a source's credentials, and how much it sees.

A source that answers an account which sees less shows fewer items, and no error. What is absent
then is not deleted. So before anything is concluded from absence, the account's view is compared
with the widest one under which rows were loaded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from temporaletl.bound_connection import connection_in_use
from temporaletl.registry import Registry, place_of

#: Items of a difference that a message names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class AccountView:
    """View of the account behind a source's credentials, as far as the source reports it.

    `account` is the source's own id of it, None where the source does not report one.
    `permissions` are those that reading needs, by the source's names; `containers` are the ids of
    what items lie in: projects, tenants, tables. `asked_for` are those containers that the settings
    name, seen or not: others are not requested, so that nothing is known of them. None where the
    settings name none. `site` is which site answers, by an id that it gives itself and keeps when
    it moves, after a word for its kind; None where it gives none. Several ids, each of a kind of
    its own, are separated by a comma and a blank. Rows of two sites must not meet under one
    connection.

        AccountView(
            "api-user-7",
            permissions=frozenset({"orders:read"}),
            containers=frozenset({"branch-1", "branch-2"}),
        )
    """

    account: str | None
    permissions: frozenset[str] = field(default_factory=frozenset)
    containers: frozenset[str] = field(default_factory=frozenset)
    asked_for: frozenset[str] | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True)
class KnownView:
    """The widest view under which rows were loaded; `accounts` are all that loaded any."""

    accounts: frozenset[str]
    permissions: frozenset[str]
    containers: frozenset[str]
    site: str | None = None

    def is_of_other_site(self, view: AccountView) -> bool:
        """Whether rows were loaded from another site than the one that answers now."""
        known, present = _ids_of(self.site), _ids_of(view.site)
        # Ids of two kinds cannot be compared: a site may give one now that it did not give before.
        return any(known[kind] != present[kind] for kind in known.keys() & present.keys())

    def lacks(self, view: AccountView) -> str | None:
        """The difference to the present view, in a sentence; None where that covers all."""
        if view.account is None and self.accounts:
            loaders = _some(sorted(self.accounts))
            return f"rows were loaded by account {loaders}, and now the source names none"
        others = sorted(self.accounts - {view.account})
        if others:
            return f"rows were loaded by account {_some(others)}, and now it is {view.account!r}"
        containers = self.containers
        if view.asked_for is not None:
            containers &= view.asked_for
        for kind, known, present in (
            ("permission", self.permissions, view.permissions),
            ("container", containers, view.containers),
        ):
            if missing := sorted(known - present):
                return (
                    f"account {view.account!r} lacks {len(missing)} of the {len(known)} {kind}s "
                    f"it had when rows were loaded: {_some(missing)}"
                )
        return None


def _ids_of(site: str | None) -> dict[str, str]:
    """The ids of a site by their kinds."""
    parts = () if site is None else site.split(", ")
    return {kind: text for kind, _, text in (part.partition(" ") for part in parts)}


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown}, …"


#: Reads the view from the source, by its settings; None where the source reports none.
type ViewMethod = Callable[[], AccountView | None]

account_views: Registry[ViewMethod] = Registry("account view")

#: Sources and connections whose login was accepted when this process last read their view.
_accepted: set[tuple[str, str]] = set()
_when_accepted: ContextVar[Callable[[], None] | None] = ContextVar("when_accepted", default=None)


def read_view(source: str) -> AccountView | None:
    """Read the account view of the bound connection of a source that has one. Blocks.

    Raises: what the source's own function raises.
    """
    key = source, connection_in_use()
    try:
        view = account_views.get(source)()
    except BaseException:
        _accepted.discard(key)
        raise
    note_accepted(source)
    return view


def note_accepted(source: str) -> None:
    """Note that the login of the bound connection was accepted: others may ask beside it.

    A function that reads a view may say so before it has all of that.
    """
    _accepted.add((source, connection_in_use()))
    if (tell := _when_accepted.get()) is not None:
        tell()


@contextmanager
def when_accepted(tell: Callable[[], None]) -> Iterator[None]:
    """Be told, from whatever thread, when a view's login in this context has been accepted."""
    token = _when_accepted.set(tell)
    try:
        yield
    finally:
        _when_accepted.reset(token)


def login_was_accepted(source: str) -> bool:
    """Whether the login of the bound connection was accepted when its view was last read.

    Else it must be tried once and alone: sites lock out whom they refuse several times at once.
    """
    return (source, connection_in_use()) in _accepted


def account_view[F: ViewMethod](source: str) -> Callable[[F], F]:
    """Register a function that reads the account and its permissions from a source.

    It blocks, takes a few requests at most, and reads its settings by itself. It is called before
    each run, in `etl check`, and before a deletion scan deletes anything; it stands in a module
    that both services import.

        @account_view("shop")
        def shop_account() -> AccountView:
            me = shop.me()
            return AccountView(me["id"], containers=frozenset(me["branches"]))

    It raises CredentialsError where credentials are set and the source takes us for nobody.
    """

    def register(function: F) -> F:
        account_views.register(source, function, place=place_of(function))
        return function

    return register
