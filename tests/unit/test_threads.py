"""Blocking calls in threads, beside the one that waits for them."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from temporaletl.external.threads import Begun

marked: ContextVar[str] = ContextVar("marked", default="")


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def test_calls_run_in_the_context_in_which_they_begin(threads: ThreadPoolExecutor) -> None:
    with threads:
        marked.set("here")
        begun = Begun(threads, marked.get)
        marked.set("")
        assert begun.result() == "here"


def test_a_call_begun_in_the_only_thread_there_is_runs_there(threads: ThreadPoolExecutor) -> None:
    with threads:
        nested = threads.submit(lambda: Begun(threads, divmod, 7, 2).result())
        assert nested.result(timeout=120) == (3, 1)


def test_what_fails_fails_where_its_result_is_requested(threads: ThreadPoolExecutor) -> None:
    with threads:
        begun = Begun(threads, divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            begun.result()
