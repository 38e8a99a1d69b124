"""Which Jira to read, where, and as whom."""

import re
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from temporaletl.budget import RateBudget
from temporaletl.credentials import HeaderText
from temporaletl.deletions import FindDeleted
from temporaletl.settings import Settings, check_encrypted, site_address
from temporaletl.strategies import rate_budget

_EXAMPLE = "https://example.atlassian.net"
Place = Literal["api", "trino"]

#: Parts of a table's name in Trino: catalog, schema and table, of which the first may be absent.
_TABLE_PARTS = (2, 3)


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


class JiraPace(Settings):
    """How often Jira may be asked; read also where no Jira is configured."""

    requests_per_second: PositiveFloat | None = Field(
        None,
        validation_alias="JIRA_REQUESTS_PER_SECOND",
        description="what all workers together may ask of Jira; unset: no limit",
    )


class JiraSettings(Settings):
    """Which Jira to read, where, and as whom."""

    url: Annotated[str, AfterValidator(partial(site_address, example=_EXAMPLE))] | None = Field(
        None,
        validation_alias="JIRA_URL",
        description=f"the address of the Jira site, e.g. {_EXAMPLE}",
    )
    email: HeaderText | None = Field(None, validation_alias="JIRA_EMAIL")
    api_token: SecretStr | None = Field(None, validation_alias="JIRA_API_TOKEN")
    personal_token: SecretStr | None = Field(None, validation_alias="JIRA_PERSONAL_TOKEN")
    jql: Annotated[str, AfterValidator(check_jql)] | None = Field(
        None, validation_alias="JIRA_JQL", description="a further filter on the issues to read"
    )
    extract_from: Place = Field(
        "api", validation_alias="JIRA_EXTRACT_FROM", description="where issues are read: api, trino"
    )
    backlog_from: Place | None = Field(
        None,
        validation_alias="JIRA_BACKLOG_FROM",
        description="where issues are counted: api, trino; default where they are read",
    )
    trino_issues: Annotated[str, AfterValidator(_table)] = Field(
        "jira.issues",
        validation_alias="JIRA_TRINO_ISSUES",
        description="the table of issues in Trino",
    )
    trino_users: Annotated[str, AfterValidator(_users_table)] = Field(
        "jira.users",
        validation_alias="JIRA_TRINO_USERS",
        description="the table of people in Trino, or none",
    )
    trino_overlap_hours: NonNegativeFloat = Field(
        48,
        validation_alias="JIRA_TRINO_OVERLAP_HOURS",
        description="how far back an incremental run looks for issues that came late into Trino",
    )
    find_deleted: FindDeleted = Field(
        "always",
        validation_alias="JIRA_FIND_DELETED",
        description="in which runs all issues are listed to find those that are gone",
    )
    page_size: PositiveInt = Field(
        100, validation_alias="JIRA_PAGE_SIZE", description="issues asked for at once"
    )
    concurrency: PositiveInt = Field(
        6, validation_alias="JIRA_CONCURRENCY", description="requests at once from one process"
    )
    connect_timeout_seconds: PositiveFloat = Field(
        10, validation_alias="JIRA_CONNECT_TIMEOUT_SECONDS"
    )
    read_timeout_seconds: PositiveFloat = Field(60, validation_alias="JIRA_READ_TIMEOUT_SECONDS")

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
    def counted_in(self) -> Place:
        """Where the backlog is counted."""
        return self.backlog_from or self.extract_from

    @property
    def uses_api(self) -> bool:
        return "api" in {self.extract_from, self.counted_in}

    @property
    def uses_trino(self) -> bool:
        return "trino" in {self.extract_from, self.counted_in}

    @property
    def has_api(self) -> bool:
        """Whether Jira itself can be asked, wherever the issues are read."""
        return self.url is not None and (
            self.personal_token is not None or self.api_token is not None
        )


@rate_budget("jira")
def jira_budget() -> RateBudget:
    """What the workers together may ask: JIRA_REQUESTS_PER_SECOND."""
    return RateBudget(requests_per_second=JiraPace.load().requests_per_second)
