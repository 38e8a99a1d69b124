"""Jira's issues and people as tables in Trino.

Of issues, the columns `id` and `fields` are needed, `key`, `self` and `changelog` are taken where
they are; `fields` and `changelog` are Jira's JSON, as text or as Trino's own type.
"""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from temporaletl.errors import ConfigurationError
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import IssueRange, as_ms
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.order import Ordered, outer_times, quoted
from temporaletl.external.trino.server import Parameter, Statement, TrinoServer, open_trino
from temporaletl.external.trino.values import Column, utc_timestamp
from temporaletl.rows import Identity
from temporaletl.timezones import known_timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The columns of an issue, in the order in which `IssueTable.ordered` gives them.
ISSUE_COLUMNS = ("id", "key", "self", "fields", "changelog")
_NEEDED = ("id", "fields")
_JSON = ("fields", "changelog")
#: Those of a person by their names in small letters and without underscores, first ones first.
_PERSON_COLUMNS = {
    "person": ("accountid", "name", "key"),
    "email": ("emailaddress", "email"),
    "name": ("displayname",),
    "timezone": ("timezone",),
}
_TEXTS = frozenset({"varchar", "char", "json"})


def _quoted_table(name: str) -> str:
    return ".".join(quoted(part.strip().strip('"')) for part in name.split("."))


def _time(field: str) -> str:
    """SQL for a time in an issue's fields: text with an offset, or milliseconds since 1970."""
    text = f"json_extract_scalar(fields, '$.{field}')"
    return (
        f"COALESCE(TRY(from_iso8601_timestamp({text})), "
        f"TRY(from_unixtime(CAST({text} AS double) / 1000)))"
    )


class IssueTable:
    """The table of issues. Its methods block, and raise as `Statement.fetch`."""

    def __init__(self, server: TrinoServer, table: str) -> None:
        self.server = server
        self.name = f"table {table} (JIRA_TRINO_ISSUES)"
        self._table = _quoted_table(table)
        self._columns: dict[str, str] | None = None
        self._guard = threading.Lock()

    def count(self, issues: IssueRange) -> int:
        """Return how many issues of the range there are now."""
        return self.ordered(issues).count(self.server, name=self.name)

    def ends(self, issues: IssueRange) -> tuple[int, int] | None:
        """Return the times of the first and the last issue, in milliseconds; None without issues.

        Blocks; raises as `Statement.fetch`.
        """
        of_range = self.ordered(issues)
        times = outer_times(
            self.server, of_range.sql, of_range.parameters, of_range.time, name=self.name
        )
        first, last = (None if time is None else _ms(time) for time in times)
        return None if first is None or last is None else (first, last)

    def ordered(self, issues: IssueRange) -> Ordered:
        """Return the issues of a range, each as `ISSUE_COLUMNS`, texts or null."""
        columns = self._known_columns()
        selected = [
            f"{columns.get(name, 'CAST(NULL AS varchar)')} AS {quoted(name)}"
            for name in ISSUE_COLUMNS
        ]
        times = [f"{_time(name)} AS etl_{name}" for name in ("created", "updated")]
        sql = f"SELECT {', '.join([*selected, *times])} FROM {self._table}"  # noqa: S608
        parameters: list[Parameter] = []
        if issues.updated_from_ms is not None:
            sql = f"SELECT * FROM ({sql}) WHERE etl_updated >= ?"  # noqa: S608
            parameters.append(_timestamp(issues.updated_from_ms))
        return Ordered(
            sql=sql,
            parameters=parameters,
            time=f"etl_{issues.order}",
            keys=("id",),
            start=_timestamp(issues.from_ms),
            end=_timestamp(issues.to_ms),
        )

    def ids(self) -> set[str]:
        """Return the ids of all issues."""
        sql = f"SELECT {self._known_columns()['id']} FROM {self._table}"  # noqa: S608 - the names are quoted
        return {row[0] for row in self.server.ask(sql, name=self.name) if row[0] is not None}

    def _known_columns(self) -> dict[str, str]:
        """The columns there are, each as SQL that makes text of it."""
        with self._guard:
            if self._columns is None:
                sql = f"SELECT * FROM {self._table} WHERE false"  # noqa: S608
                statement = Statement(self.server, sql, name=self.name)
                try:
                    self._columns = self._chosen(statement.columns())
                finally:
                    statement.close()
            return self._columns

    def _chosen(self, columns: Sequence[Column]) -> dict[str, str]:
        found = {column.name.lower(): column for column in columns}
        for name in _NEEDED:
            if name not in found:
                raise ConfigurationError(
                    f"jira: {self.name} has no column {name}; it has {', '.join(found)}"
                )
        chosen: dict[str, str] = {}
        for name in ISSUE_COLUMNS:
            if name not in found:
                continue
            kind = found[name].signature["rawType"]
            if name in _JSON and kind not in _TEXTS:
                raise ConfigurationError(
                    f"jira: {self.name}: column {name} is a {found[name].type}, not JSON as text: "
                    "name a view that makes it one"
                )
            # Of Trino's JSON type, the text is the same JSON.
            chosen[name] = (
                f"json_format({quoted(name)})"
                if kind == "json"
                else f"CAST({quoted(name)} AS varchar)"
            )
        return chosen


def _timestamp(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def _ms(time: str) -> int | None:
    try:
        return as_ms(utc_timestamp(time))
    except ValueError:
        return None  # of no year that Python knows


def read_people(server: TrinoServer, table: str) -> Iterator[Identity]:
    """Yield the people of the table of users. Blocks; raises as `Statement.fetch`.

    Raises:
        ConfigurationError: the table has nothing that people could be known by.
    """
    name = f"table {table} (JIRA_TRINO_USERS)"
    sql = f"SELECT * FROM {_quoted_table(table)}"  # noqa: S608 - the names are quoted
    statement = Statement(server, sql, name=name)
    try:
        columns = [column.name.lower().replace("_", "") for column in statement.columns()]
        indexes_of = {
            part: [columns.index(column) for column in names if column in columns]
            for part, names in _PERSON_COLUMNS.items()
        }
        if not indexes_of["person"]:
            raise ConfigurationError(
                f"jira: {name} has no column accountId, name or key; it has {', '.join(columns)}; "
                "JIRA_TRINO_USERS=none reads no people"
            )
        while rows := statement.fetch(server.settings.page_size):
            for row in rows:
                person, email, shown, timezone = (
                    next((str(row[i]) for i in indexes if row[i]), None)
                    for indexes in indexes_of.values()
                )
                if person is not None:
                    yield identity(person, email=email, name=shown, timezone=timezone)
    finally:
        statement.close()


def identity(person: str, *, email: str | None, name: str | None, timezone: str | None) -> Identity:
    """Make the identity of one of Jira's people; a zone that is none is left out."""
    return Identity(
        source_kind_id="jira",
        person=person,
        email=email or None,
        name=name or None,
        timezone=known_timezone(timezone),
    )


def open_issues(settings: JiraSettings) -> IssueTable:
    """Return the table of issues; sends no query yet.

    Raises:
        ConfigurationError: a setting of Trino is missing or wrong.
    """
    return IssueTable(open_trino(TrinoSettings.load()), settings.trino_issues)
