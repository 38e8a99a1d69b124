"""Source `launchpad`: what was loaded and is not there any more."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from temporaletl import CredentialsError, SourceProtocolError
from temporaletl.messages import Mode
from tests.fakes.launchpad import Archive, generate
from tests.fakes.launchpad.service import OWN_FAULTS
from tests.integration.job_reading import NOW, Read, Serve, read
from tests.integration.launchpad_reading import STREAMS, jobs_of, served

__all__ = ["served"]


def small(seed: int) -> Archive:
    return generate(20, proposals=12, questions=10, seed=seed, people=4)


Hide = Callable[[Archive, str], str]


def some(archive: Archive, stream: str) -> tuple[dict[int, Any], int]:
    """All items of a stream, and the number of one on which no other's events depend."""
    items = getattr(archive, "proposals" if stream == "merge_proposals" else stream)
    successors = {each.superseded_by for each in archive.proposals.values()}
    return items, sorted(items.keys() - successors)[2]


def remove(archive: Archive, stream: str) -> str:
    """Remove an item; return what the ids of its events begin with."""
    items, number = some(archive, stream)
    del items[number]
    archive.version += 1
    return f"{stream.removesuffix('s')}:{number}:"


def make_private(archive: Archive, stream: str) -> str:
    items, number = some(archive, stream)
    items[number].private = True
    archive.version += 1
    return f"{stream.removesuffix('s')}:{number}:"


def refuse_with_404(archive: Archive, stream: str) -> str:
    archive.private_status = 404
    return make_private(archive, stream)


async def later(stream: str, found: Read, mode: Mode = "incremental") -> Read:
    start = None if mode == "full" else NOW
    jobs = await jobs_of(stream, mode, start=start, end=NOW + timedelta(days=1))
    return await read(jobs, into=found)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("hide", [remove, make_private, refuse_with_404])
async def test_what_is_not_shown_any_more_leaves_with_the_next_run(
    served: Serve, stream: str, hide: Hide
) -> None:
    archive = small(seed=21)
    served(archive, LP_FIND_DELETED="always")
    found = await read(await jobs_of(stream))
    gone = hide(archive, stream)
    assert any(id_.startswith(gone) for id_ in found.events)
    await later(stream, found)
    assert not any(id_.startswith(gone) for id_ in found.events)
    assert found.events == (await read(await jobs_of(stream))).events


@pytest.mark.parametrize("stream", STREAMS)
async def test_what_is_in_no_list_any_more_is_asked_for_and_stays(
    served: Serve, stream: str
) -> None:
    archive = small(seed=22)
    served(archive, LP_FIND_DELETED="always")
    found = await read(await jobs_of(stream))
    before = dict(found.events)
    served(archive, LP_FIND_DELETED="always", LP_MEMBERS=next(iter(archive.people)))
    await later(stream, found, "full")
    assert found.events.keys() == before.keys()


@pytest.mark.parametrize("kind", ["503", "504", "reset", "429", *OWN_FAULTS])
async def test_no_fault_makes_anything_look_gone(served: Serve, kind: str) -> None:
    archive = small(seed=23)
    served(archive)
    found = await read(await jobs_of("bugs"))
    gone = remove(archive, "bugs")
    kept = {id_ for id_ in found.events if not id_.startswith(gone)}
    served(archive, f"{kind}:0.2", LP_FIND_DELETED="always")
    await later("bugs", found)
    assert found.events.keys() >= kept
    assert not any(id_.startswith(gone) for id_ in found.events)


async def test_a_refused_token_makes_nothing_look_gone(served: Serve) -> None:
    archive = small(seed=24)
    served(archive)
    found = await read(await jobs_of("bugs"))
    server = served(archive, LP_FIND_DELETED="always")
    server.service.forbidden = True  # type: ignore[attr-defined]
    before = dict(found.events)
    with pytest.raises(CredentialsError):
        await later("bugs", found)
    assert found.events == before


async def test_much_that_is_gone_at_once_looks_like_a_permission_taken_away(
    served: Serve,
) -> None:
    archive = small(seed=25)
    served(archive, LP_FIND_DELETED="always")
    found = await read(await jobs_of("bugs"))
    stored = len(archive.bugs)
    for bug in archive.bugs.values():
        bug.private = True
    archive.version += 1
    with pytest.raises(SourceProtocolError, match=rf"{stored} of the {stored} bugs.*accept_del"):
        await later("bugs", found)
    assert found.events
    jobs = await jobs_of("bugs", accept_deletions=True)
    assert not (await read(jobs, into=found)).events


@pytest.mark.parametrize(
    ("setting", "mode", "params", "taken"),
    [
        ("always", "incremental", {}, True),
        ("full", "incremental", {}, False),
        ("full", "full", {}, True),
        ("never", "full", {}, False),
        ("always", "backfill", {}, False),
        ("always", "full", {"members": ["ada"]}, False),
        ("always", "full", {"targets": ["alpha"]}, False),
    ],
)
async def test_deletions_are_looked_for_in_the_runs_that_ask_for_it(
    served: Serve, setting: str, mode: Mode, params: dict[str, Any], taken: bool
) -> None:
    served(small(seed=26), LP_FIND_DELETED=setting)
    start = None if mode == "full" else NOW - timedelta(days=1)
    jobs = await jobs_of("bugs", mode, start=start, **params)
    assert any(job.scan for job in jobs) == taken
