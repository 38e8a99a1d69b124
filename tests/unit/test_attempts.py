"""Which attempts count, through the interceptor and Temporal's own heartbeats."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
)

from temporaletl.errors import (
    SourceUnavailableError,
    WarehouseOverloadedError,
    WarehouseUnavailableError,
)
from temporaletl.messages import (
    BatchMetadata,
    EndJobRequest,
    ETLInput,
    JobsRequest,
    MetadataRequest,
    OutcomesRequest,
    RunPolicy,
)
from temporaletl.temporal.attempts import UNANSWERED_ATTEMPTS, limit_of
from temporaletl.temporal.interceptor import RecoveryInterceptor

LIMIT = 3
REQUEST = JobsRequest(batch_id="b", first=0, end=1, policy=RunPolicy(max_attempts=LIMIT))


class Failing(ActivityInboundInterceptor):
    """The activity itself: heartbeats its pages, and fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.began = False

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self.outbound = outbound

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ARG002
        self.began = True
        self.outbound.heartbeat(17)
        raise self.error


class Beating(ActivityOutboundInterceptor):
    """Where Temporal hears the heartbeats."""

    def __init__(self) -> None:
        self.beats: list[tuple[Any, ...]] = []

    def heartbeat(self, *details: Any) -> None:
        self.beats.append(details)


async def attempt(
    error: Exception, number: int, details: Sequence[Any] = ()
) -> tuple[ApplicationError, Sequence[Any], bool]:
    """The failure of an attempt, its last heartbeat, and whether the activity was begun at all."""
    inner, outbound = Failing(error), Beating()
    chain = RecoveryInterceptor().intercept_activity(inner)
    chain.init(outbound)
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        environment.info, attempt=number, heartbeat_details=details
    )
    given = ExecuteActivityInput(fn=lambda: None, args=[REQUEST], executor=None, headers={})
    with pytest.raises(ApplicationError) as failure:
        await environment.run(chain.execute_activity, given)
    return failure.value, outbound.beats[-1] if outbound.beats else details, inner.began


async def attempts(*errors: Exception) -> list[ApplicationError]:
    """One after the other, each with what the one before left, until one is the last."""
    details: Sequence[Any] = ()
    failures: list[ApplicationError] = []
    for number, error in enumerate(errors, 1):
        failure, details, _ = await attempt(error, number, details)
        failures.append(failure)
        if failure.non_retryable:
            break
    return failures


GONE = WarehouseUnavailableError("PostgreSQL is away")
DOWN = SourceUnavailableError("the source is away")
DOWN_TYPE = "SourceUnavailableError"


async def test_an_outage_of_the_warehouse_takes_no_attempt_and_is_asked_after_soon() -> None:
    failures = await attempts(*[GONE] * 3_000)
    assert len(failures) == 3_000
    assert not any(failure.non_retryable for failure in failures)
    delays = [failure.next_retry_delay for failure in failures]
    assert delays[:6] == [timedelta(seconds=n) for n in (1, 2, 4, 8, 15, 15)]
    assert delays[-1] == timedelta(seconds=15)


async def test_failures_of_a_source_are_counted_past_an_outage_of_the_warehouse() -> None:
    failures = await attempts(DOWN, GONE, GONE, DOWN, GONE, DOWN, DOWN)
    assert [failure.non_retryable for failure in failures] == [False] * 5 + [True]


async def test_a_statement_that_takes_too_much_is_not_tried_for_ever() -> None:
    assert len(await attempts(*[WarehouseOverloadedError("too slow")] * 10)) == LIMIT


async def test_attempts_that_never_answered_are_no_failures_and_end_by_a_bound_of_their_own() -> (
    None
):
    most = UNANSWERED_ATTEMPTS
    details: Sequence[Any] = ({"outages": 4, "failures": LIMIT - 2},)
    before = 4 + LIMIT - 2
    failure, details, began = await attempt(DOWN, before + most, details)
    assert (began, failure.type, failure.non_retryable) == (True, DOWN_TYPE, False)
    failure, _, began = await attempt(DOWN, before + most + 1, details)
    assert (began, failure.type, failure.non_retryable) == (True, DOWN_TYPE, True)
    failure, _, began = await attempt(DOWN, before + most + 2, details)
    assert (began, failure.type, failure.non_retryable) == (False, "UnansweredError", True)
    assert "5 attempts in a row gave no answer" in failure.message


@pytest.mark.parametrize(("done", "begins"), [(16, True), (17, False), (18, False)])
async def test_progress_forgives_attempts_that_never_answered(done: int, begins: bool) -> None:
    _, details, _ = await attempt(DOWN, UNANSWERED_ATTEMPTS, (done, {"outages": 0}))
    _, _, began = await attempt(DOWN, UNANSWERED_ATTEMPTS + 3, details)
    assert began is begins


async def test_a_heartbeat_keeps_what_the_activity_says() -> None:
    _, beat, _ = await attempt(GONE, 1)
    assert tuple(beat) == (17, {"outages": 1})


def test_every_message_to_the_ledger_brings_its_batchs_policy() -> None:
    policy = RunPolicy(max_attempts=7)
    job = ETLInput(
        batch_id="b", seq=0, job_id="j", source="s", stream="t", mode="full", policy=policy
    )
    for message in (
        job,
        EndJobRequest(job=job, state="failed"),
        JobsRequest(batch_id="b", first=0, end=1, policy=policy),
        OutcomesRequest(batch_id="b", outcomes=(), policy=policy),
    ):
        assert limit_of(message) == 7
    assert BatchMetadata.model_fields["policy"].annotation is RunPolicy
    assert "policy" not in MetadataRequest.model_fields
    assert limit_of(None) == RunPolicy().max_attempts
