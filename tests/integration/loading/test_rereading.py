"""Second readings: what one run could not read of its source, the next one asks for by itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from temporaletl import rereading
from temporaletl.errors import ConfigurationError, CredentialsError, SourceUnavailableError
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import ETLInput, SegmentResult
from temporaletl.query import Query
from temporaletl.rereading import Reread, Unread
from temporaletl.rows import Reject
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading import segments
from tests.integration.loading.jobs import Job, fetch, make_event

Answer = Reread | None | Exception


class Source:
    """A source that could not give some items, and what it says of each when asked again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str | None, Any]] = []
        #: What happens once, while `a` is read.
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        segments.register(monkeypatch, self._extract)
        rereading.rereaders.register("jira-issues", self._reread, place="here")
        self._rejects: list[Reject] = []

    async def _extract(self, _request: PageRequest[Query]) -> AsyncGenerator[Page]:
        yield Page(records=[make_event(0)], cursor=1, rejects=self._rejects)

    async def _reread(self, unread: Unread, _request: PageRequest[Query]) -> Reread | None:
        self.asked.append((unread.key, unread.payload))
        if self.meanwhile is not None and unread.key == "a":
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        answer = self.answers.get(str(unread.key))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def rejects(self, *keys: str, stage: str = "extract") -> None:
        """Run a job that cannot read these."""
        self._rejects = [
            Reject(stage=stage, reason="cannot be read", key=key, payload={"at": key})
            for key in keys
        ]
        assert (await segments.run(Job(self.warehouse), reject_threshold=1)).done

    async def read_again(self, job: Job | None = None, **limits: Any) -> SegmentResult:
        job = job or self.job()
        job.input = job.input.model_copy(update={"reread": True})
        return await segments.run(job, **limits)

    def job(self) -> Job:
        return Job(self.warehouse)

    @property
    def left(self) -> dict[str, tuple[str, int]]:
        found = fetch(self.warehouse, "SELECT key, reason, times FROM etl_rejects")
        return {row["key"]: (row["reason"], row["times"]) for row in found}

    @property
    def events(self) -> set[str]:
        return {row["event_id"] for row in fetch(self.warehouse, "SELECT event_id FROM events")}


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse) -> Source:
    return Source(monkeypatch, warehouse)


async def test_what_is_read_becomes_rows_and_leaves_the_rejects(source: Source) -> None:
    await source.rejects("a", "b")
    source.answers = {"a": Reread([make_event(7)]), "b": Reread(fault="not yet")}
    result = await source.read_again()
    assert source.events == {"event-000000", "event-000007"}
    assert source.left == {"b": ("not yet", 2)}
    assert sorted(source.asked) == [("a", {"at": "a"}), ("b", {"at": "b"})]
    assert (result.progress.rows.inserted, result.progress.rows.rejected) == (1, 1)


async def test_what_is_not_shown_stays_until_it_is_shown_again(source: Source) -> None:
    await source.rejects("a")
    source.answers = {"a": Reread()}
    assert (await source.read_again()).done
    [(reason, times)] = source.left.values()
    assert (reason.partition(";")[0], times) == (
        "the source did not show it when it was requested again",
        2,
    )
    source.answers = {"a": Reread([make_event(7)])}
    assert (await source.read_again()).done
    assert (source.left, source.events) == ({}, {"event-000000", "event-000007"})


async def test_what_is_met_unread_again_meanwhile_stays(source: Source) -> None:
    await source.rejects("a", "b")
    source.answers = dict.fromkeys("ab", Reread([make_event(7)]))
    # While the answer is under way, another job of the batch meets the item, changed and unread.
    source.meanwhile = lambda: source.rejects("a")
    assert (await source.read_again()).done
    assert source.left == {"a": ("cannot be read", 2)}
    assert (await source.read_again()).done
    assert source.left == {}


async def test_of_what_is_read_in_part_the_part_is_loaded_and_the_reject_stays(
    source: Source,
) -> None:
    await source.rejects("a")
    source.answers = {"a": Reread([make_event(7)], fault="its comments are missing")}
    await source.read_again()
    assert "event-000007" in source.events
    assert source.left == {"a": ("its comments are missing", 2)}


async def test_what_cannot_be_asked_for_by_itself_stays_as_it_is(source: Source) -> None:
    await source.rejects("a")
    await source.read_again()
    assert source.left == {"a": ("cannot be read", 2)}


async def test_each_has_one_turn_in_a_run_whatever_comes_of_it(source: Source) -> None:
    keys = [f"{number:03d}" for number in range(45)]
    await source.rejects(*keys)
    source.answers = dict.fromkeys(keys, Reread(fault="not yet"))
    job = source.job()
    while not (await source.read_again(job, stop_behind=1)).done:
        pass
    # What was read ahead when a segment stopped is asked for again, and counts once.
    assert {key for key, _ in source.asked} == set(keys)
    assert source.left == dict.fromkeys(keys, ("not yet", 2))


async def test_of_very_many_those_come_first_that_waited_longest(source: Source) -> None:
    keys = [f"{number:03d}" for number in range(230)]
    await source.rejects(*keys)
    source.answers = dict.fromkeys(keys, Reread(fault="not yet"))
    await source.read_again()
    first = {key for key, _ in source.asked}
    assert len(first) == 200
    source.asked.clear()
    await source.read_again()
    assert {key for key, _ in source.asked} >= set(keys) - first


async def test_rejects_of_other_stages_are_not_asked_for(source: Source) -> None:
    await source.rejects("a", stage="transform")
    await source.read_again()
    assert (source.asked, set(source.left)) == ([], {"a"})


async def test_a_source_that_is_down_changes_no_reject(source: Source) -> None:
    await source.rejects("a", "b")
    source.answers = {"a": SourceUnavailableError("down"), "b": Reread([make_event(7)])}
    with pytest.raises(SourceUnavailableError):
        await source.read_again()
    assert source.left == dict.fromkeys(("a", "b"), ("cannot be read", 1))


async def test_what_can_never_be_asked_for_is_no_reason_to_fail_the_others(source: Source) -> None:
    await source.rejects("a", "b")
    source.answers = {"a": ConfigurationError("no such target"), "b": Reread([make_event(7)])}
    assert (await source.read_again()).done
    assert source.left == {"a": ("no such target", 2)}


async def test_refused_credentials_fail_the_job(source: Source) -> None:
    await source.rejects("a")
    source.answers = {"a": CredentialsError("refused")}
    with pytest.raises(CredentialsError):
        await source.read_again()


async def test_a_replay_asks_for_what_could_not_be_read(source: Source) -> None:
    await source.rejects("a")
    source.answers = {"a": Reread([make_event(7)])}
    job = source.job()
    job.input = ETLInput.model_validate({**job.input.model_dump(), "mode": "replay"})
    assert (await segments.run(job)).done
    assert (source.left, "event-000007" in source.events) == ({}, True)


async def test_a_stream_that_reads_nothing_again_keeps_its_rejects(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.rejects("a")
    monkeypatch.setattr(rereading.rereaders, "_entries", {})
    assert (await source.read_again()).done
    assert source.left == {"a": ("cannot be read", 1)}
