from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from temporaletl.connections.providers import find_connection
from temporaletl.control.operations.following import is_misconfiguration
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
    RecordError,
    SourceUnavailableError,
    TooManyRejectsError,
    WarehouseClosedError,
    WarehouseOverloadedError,
    WarehouseUnavailableError,
)
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.temporal.interceptor import RecoveryInterceptor, as_application_error


@pytest.mark.parametrize("kind", [SourceUnavailableError, WarehouseUnavailableError])
@pytest.mark.parametrize("attempt", [1, 19])
def test_what_may_heal_is_retried_at_any_attempt(kind: type[Exception], attempt: int) -> None:
    failure = as_application_error(kind("it broke off"), attempt=attempt)
    assert not failure.non_retryable
    assert (failure.message, failure.type) == ("it broke off", kind.__name__)
    assert failure.next_retry_delay is None


@pytest.mark.parametrize("kind", [SourceUnavailableError, WarehouseOverloadedError])
def test_what_may_heal_fails_with_its_last_attempt(kind: type[Exception]) -> None:
    final = [
        as_application_error(kind("not yet"), attempt=n, limit=3).non_retryable for n in (1, 2, 3)
    ]
    assert final == [False, False, True]


def test_a_source_that_names_a_delay_is_left_alone_that_long() -> None:
    error = RateLimitedError("slow down", delay=timedelta(seconds=90))
    assert as_application_error(error, attempt=1).next_retry_delay == timedelta(seconds=90)


@pytest.mark.parametrize(
    "kind", [ConfigurationError, CredentialsError, TooManyRejectsError, RecordError]
)
def test_what_a_person_must_change_is_not_retried(kind: type[Exception]) -> None:
    failure = as_application_error(kind("change it"), attempt=1)
    assert failure.non_retryable
    assert (failure.message, failure.type) == ("change it", kind.__name__)


def test_a_setting_is_said_to_be_of_the_services_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JIRA_URL", "https://jira.example.com")
    with pytest.raises(ConfigurationError, match=r"^no credentials for Jira") as here:
        JiraSettings.load()
    assert "services" not in str(here.value)
    failure = as_application_error(here.value, attempt=1)
    assert failure.non_retryable
    assert failure.message.startswith(f"{here.value} (in the environment of the services")
    assert is_misconfiguration(failure.type or "")


def test_connections_that_the_services_do_not_know_are_said_to_be_of_their_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ETL_CONNECTIONS", raising=False)
    with pytest.raises(ConfigurationError, match="ETL_CONNECTIONS, which would name") as here:
        find_connection("jira", "acme")
    failure = as_application_error(here.value, attempt=1)
    assert failure.message.startswith(f"{here.value} (in the environment of the services")
    assert failure.message.endswith("start them anew)")

    (tmp_path / "connections.toml").write_text("")
    monkeypatch.setenv("ETL_CONNECTIONS", str(tmp_path / "connections.toml"))
    with pytest.raises(ConfigurationError, match="has no connection 'acme'") as here:
        find_connection("jira", "acme")
    assert as_application_error(here.value, attempt=1).message == str(here.value)


def test_a_fault_of_our_own_gets_three_attempts() -> None:
    final = [as_application_error(KeyError("x"), attempt=n).non_retryable for n in (1, 2, 3, 4)]
    assert final == [False, False, True, True]


def test_a_fault_of_our_own_is_told_by_its_class_and_first_line_only() -> None:
    error = ValueError("duplicate key\nDETAIL: Key (email)=(ann@example.com) exists")
    assert as_application_error(error, attempt=1).message == "ValueError: duplicate key"


def test_an_error_without_words_has_the_name_of_its_class() -> None:
    assert as_application_error(SourceUnavailableError(""), attempt=1).message == (
        "SourceUnavailableError"
    )


def test_a_long_error_is_cut_before_it_enters_history() -> None:
    failure = as_application_error(SourceUnavailableError("x" * 5_000_000), attempt=1)
    assert len(failure.message) < 10_000


class Inner(ActivityInboundInterceptor):
    """The activity itself: raises, or tells which ids its logs would carry."""

    def __init__(self, outcome: BaseException | None) -> None:
        self.outcome = outcome

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ARG002
        if self.outcome is not None:
            raise self.outcome
        return structlog.contextvars.get_contextvars()


async def intercepted(outcome: BaseException | None) -> Any:
    chain = RecoveryInterceptor().intercept_activity(Inner(outcome))
    return await ActivityEnvironment().run(chain.execute_activity, Mock(args=[]))


async def test_an_activitys_logs_carry_the_ids_of_its_workflow() -> None:
    ids = await intercepted(None)
    assert ids == {"workflow_id": "test", "run_id": "test-run", "activity": "unknown", "attempt": 1}
    assert structlog.contextvars.get_contextvars() == {}


async def test_an_error_leaves_an_activity_translated_and_without_its_cause() -> None:
    with pytest.raises(ApplicationError, match="refused") as failure:
        await intercepted(CredentialsError("refused"))
    assert failure.value.non_retryable
    assert failure.value.__cause__ is None


async def test_an_activity_whose_service_is_stopping_is_left_to_another_one() -> None:
    with pytest.raises(ApplicationError, match="closed") as failure:
        await intercepted(WarehouseClosedError("the warehouse is closed"))
    assert not failure.value.non_retryable
    assert failure.value.type == "WarehouseUnavailableError"


@pytest.mark.parametrize("error", [ApplicationError("as is"), CancelledError("as is")])
async def test_temporals_own_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as passed:
        await intercepted(error)
    assert passed.value is error
