"""Settings of source `jira`: the site, its credentials, and where issues are read from."""

import re
from functools import partial
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import (
    HttpSettings,
    RateSettings,
    SourceSettings,
    variables,
)
from temporaletl.credentials import HeaderText
from temporaletl.deletions import FindDeleted
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.strategies import rate_budget

_EXAMPLE = "https://example.atlassian.net"
Backend = Literal["api", "trino"]

#: Parts of a table's name in Trino: catalog, schema and table, of which the first may be absent.
_TABLE_PARTS = (2, 3)
#: Properties of an issue that are always loaded.
ISSUE_PROPERTIES = frozenset(
    {
        *("summary", "description", "type", "status", "priority", "resolution", "project"),
        *("parent", "labels", "components", "fix_versions", "reporter", "assignee"),
    }
)
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PROPERTY = re.compile(r"[a-z][a-z0-9_]*")


def check_jql(text: str) -> str:
    """Return a filter that can stand in brackets within a query.

    Raises:
        ValueError: it brings its own ORDER BY.
    """
    unquoted = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", "", text)
    if re.search(r"\border\s+by\b", unquoted, re.IGNORECASE):
        raise ValueError("must be a filter without ORDER BY: the order is the platform's")
    return text.strip()


def _table(text: str) -> str:
    parts = text.split(".")
    if len(parts) not in _TABLE_PARTS or not all(part.strip() for part in parts):
        raise ValueError("must be a table's name with its schema, as jira.issues")
    return text.strip()


def _users_table(text: str) -> str:
    return "none" if text.strip().lower() == "none" else _table(text)


def _fields_of(text: str) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    return {field.strip(): (name or field).strip() for field, _, name in pairs}


def _check_fields(text: str) -> str:
    chosen = _fields_of(text)
    for field, name in chosen.items():
        if not _FIELD.fullmatch(field) or not _PROPERTY.fullmatch(name):
            raise ValueError(f"{field}={name} is not a field's id, =, and the name of a property")
        if name in ISSUE_PROPERTIES:
            raise ValueError(f"the property {name} of an issue is taken: give {field} another name")
    if len({*chosen.values()}) < len(chosen):
        raise ValueError("two fields become one property")
    return text


class JiraRate(RateSettings, alias_generator=variables("JIRA")):
    """Rate settings of Jira; read also where no Jira is configured."""


class JiraFields(SourceSettings, alias_generator=variables("JIRA")):
    """Further fields of issues; read also where no Jira is configured."""

    fields: Annotated[str, AfterValidator(_check_fields)] = Field(
        "",
        description="further fields of issues, and the properties they become: customfield_10016="
        "story_points, …",
    )

    @property
    def chosen_fields(self) -> dict[str, str]:
        """The properties that further fields become, by the fields' ids."""
        return _fields_of(self.fields)


class JiraSettings(JiraFields, HttpSettings, alias_generator=variables("JIRA")):
    """Settings of source `jira`: the site, its credentials, and where issues are read from."""

    library = ("jira", "jira")
    logins = MappingProxyType(
        {
            "Jira Cloud": ("url", "email", "api_token"),
            "Jira Data Center": ("url", "personal_token"),
        }
    )
    usual = ("jql",)

    url: Annotated[str, AfterValidator(partial(site_address, example=_EXAMPLE))] | None = Field(
        None,
        description=f"the address of the Jira site, e.g. {_EXAMPLE}",
    )
    email: HeaderText | None = Field(None, description="Cloud: the account's e-mail address")
    api_token: SecretStr | None = Field(None, description="Cloud: the account's API token")
    personal_token: SecretStr | None = Field(
        None, description="Data Center: a personal access token"
    )
    jql: Annotated[str, AfterValidator(check_jql)] | None = Field(
        None, description="a further filter on the issues to read"
    )
    extract_from: Backend = Field("api", description="where issues are read: api, trino")
    backlog_from: Backend | None = Field(
        None,
        description="where issues are counted: api, trino; default where they are read",
    )
    trino_issues: Annotated[str, AfterValidator(_table)] = Field(
        "jira.issues",
        description="the table of issues in Trino",
    )
    trino_users: Annotated[str, AfterValidator(_users_table)] = Field(
        "jira.users",
        description="the table of people in Trino, or none",
    )
    trino_overlap_hours: NonNegativeFloat = Field(
        48,
        description="how far back an incremental run looks for issues that came late into Trino",
    )
    find_deleted: FindDeleted = Field(
        "full",
        description="in which runs all issues are listed to find those that are gone",
    )
    concurrency: PositiveInt = Field(6, description="requests at once from one process")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.personal_token is not None and (self.email or self.api_token):
            raise ValueError(
                "JIRA_PERSONAL_TOKEN (Data Center) and JIRA_EMAIL with JIRA_API_TOKEN (Cloud) "
                "are both set: keep the one that JIRA_URL takes"
            )
        if self.extract_from == "trino" and self.jql:
            raise ValueError(
                "JIRA_JQL is set, which Trino does not understand: name a view with that filter in "
                "JIRA_TRINO_ISSUES"
            )
        if self.url is None and self.uses_api:
            raise ValueError(
                "JIRA_URL is not set (the address of the Jira site, e.g. "
                "https://example.atlassian.net)"
            )
        nobody = self.personal_token is None and not (self.email or self.api_token)
        if nobody and not self.uses_api:
            return self
        if nobody:
            raise ValueError(
                "no credentials for Jira: set JIRA_EMAIL and JIRA_API_TOKEN for Jira Cloud, or "
                "JIRA_PERSONAL_TOKEN for Data Center"
            )
        if self.url is not None:
            check_encrypted(self.url, "JIRA_URL")
        if self.personal_token is None and not (self.email and self.api_token):
            missing, given = (
                ("JIRA_API_TOKEN", "JIRA_EMAIL") if self.email else ("JIRA_EMAIL", "JIRA_API_TOKEN")
            )
            raise ValueError(f"{missing} is not set, though {given} is: Jira Cloud wants both")
        return self

    @property
    def counted_in(self) -> Backend:
        """The backend in which the backlog is counted."""
        return self.backlog_from or self.extract_from

    @property
    def uses_api(self) -> bool:
        return "api" in {self.extract_from, self.counted_in}

    @property
    def uses_trino(self) -> bool:
        return "trino" in {self.extract_from, self.counted_in}

    @property
    def has_api(self) -> bool:
        """Whether Jira's API is configured, wherever the issues are read from."""
        return self.url is not None and (
            self.personal_token is not None or self.api_token is not None
        )


# Issues and people may be read out of Trino.
connection_settings("jira", JiraSettings, TrinoSettings)
jira_budget = rate_budget("jira")(JiraRate.budget)
