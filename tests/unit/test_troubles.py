"""What is said of requests that are sent again."""

import asyncio

import pytest

from temporaletl.errors import SourceUnavailableError
from temporaletl.secrets import remember_secret
from temporaletl.troubles import Troubles, observed, one_request

REFUSED = SourceUnavailableError("shop: refused")
SAID = "shop: refused"


def give_up() -> None:
    with one_request() as failed:
        failed(REFUSED)
        raise REFUSED


def test_a_failure_stands_until_something_is_answered() -> None:
    with observed(Troubles()) as troubles:
        with pytest.raises(SourceUnavailableError):
            give_up()
        assert (troubles.now, troubles.seconds > 0) == (SAID, True)
        with one_request():
            pass
    assert (troubles.notice, troubles.seconds) == (None, 0)


def test_an_answer_to_one_request_leaves_the_failure_of_another() -> None:
    with observed(Troubles()) as troubles, one_request() as failed:
        failed(REFUSED)
        with one_request() as other:
            other(SourceUnavailableError("shop: busy"))
            assert troubles.notice == "shop: busy; it is tried again"
        assert troubles.now == SAID
        assert troubles.seconds == 0  # not all that is sent fails


def test_the_same_failure_is_told_once() -> None:
    told: list[str] = []
    with observed(Troubles(told.append)), one_request() as failed:
        for error in (REFUSED, REFUSED, SourceUnavailableError("shop: busy"), REFUSED):
            failed(error)
    told = [text.removesuffix("; it is tried again") for text in told]
    assert told == [SAID, "shop: busy", SAID]


def test_no_secret_is_told() -> None:
    remember_secret("geheim-4711-geheim")
    told: list[str] = []
    with observed(Troubles(told.append)), one_request() as failed:
        failed(SourceUnavailableError("shop: geheim-4711-geheim refused"))
    assert "4711" not in told[0]


async def test_requests_in_threads_and_tasks_belong_to_the_work() -> None:
    with observed(Troubles()) as troubles:
        work = asyncio.create_task(asyncio.to_thread(give_up))
    with pytest.raises(SourceUnavailableError):
        await work
    assert troubles.now == SAID


def test_nobody_need_listen() -> None:
    with one_request() as failed:
        failed(REFUSED)
