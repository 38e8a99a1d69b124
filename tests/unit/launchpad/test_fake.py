"""The fake Launchpad, asked by the real launchpadlib and by plain requests."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from launchpadlib.credentials import AccessToken, Credentials  # type: ignore[import-untyped]
from launchpadlib.launchpad import Launchpad  # type: ignore[import-untyped]
from lazr.restfulclient.errors import (  # type: ignore[import-untyped]
    BadRequest,
    NotFound,
    Unauthorized,
)

from tests.fakes.launchpad import Archive, expected_counts, generate, serve
from tests.fakes.server import FakeServer

EVERY = ["New", "Incomplete (with response)", "Confirmed", "Triaged", "In Progress"]
EVERY += ["Fix Committed", "Fix Released", "Opinion", "Invalid", "Won't Fix", "Expired"]


@pytest.fixture(scope="module")
def archive() -> Archive:
    return generate(120, seed=3, people=5)


@pytest.fixture(scope="module")
def server(archive: Archive) -> Iterator[FakeServer]:
    with serve(archive) as running:
        yield running


@pytest.fixture(scope="module")
def stable(server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with logged_in(server, tmp_path_factory.mktemp("stable")) as library:
        yield library


@pytest.fixture(scope="module")
def devel(server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with logged_in(server, tmp_path_factory.mktemp("devel"), version="devel") as library:
        yield library


@contextmanager
def logged_in(server: FakeServer, folder: Path, version: str = "1.0") -> Iterator[Any]:
    library = Launchpad.login_anonymously(
        "tests", service_root=f"{server.url}/", version=version, launchpadlib_dir=str(folder)
    )
    yield library
    library._browser._connection.close()


def get(server: FakeServer, path: str, **query: Any) -> requests.Response:
    return requests.get(f"{server.url}/{path}", params=query, timeout=60)


def test_the_library_finds_every_task_of_a_person(stable: Any, archive: Archive) -> None:
    who = next(iter(archive.people))
    found = stable.people[who].searchTasks(status=EVERY, omit_duplicates=False)
    expected = sum(len(b.tasks) for b in archive.bugs.values() if who in b.people())
    assert found.total_size == expected
    assert len(list(found)) == expected > 50
    assert len(found.entries) == 50


def test_the_library_reads_all_that_hangs_on_a_bug(stable: Any, archive: Archive) -> None:
    bug = max(archive.bugs.values(), key=lambda each: len(each.changes))
    found = stable.bugs[bug.number]
    assert [each.whatchanged for each in found.activity] == [each.what for each in bug.changes]
    assert len(list(found.messages)) == len(bug.messages)
    assert found.owner.name == bug.owner
    assert found.date_created == datetime.fromisoformat(bug.created)


def test_only_open_bugs_without_duplicates_are_found_unless_asked(
    stable: Any, archive: Archive
) -> None:
    found = {(task.status, task.bug_link) for task in stable.load("alpha").searchTasks()}
    assert not {status for status, _ in found} & {"Fix Released", "Invalid", "Expired"}
    duplicates = {b.number for b in archive.bugs.values() if b.duplicate_of}
    assert duplicates
    assert not {int(link.rpartition("/")[2]) for _, link in found} & duplicates


def test_modified_since_leaves_out_the_very_moment(stable: Any, archive: Archive) -> None:
    times = sorted(bug.updated for bug in archive.bugs.values())
    since = datetime.fromisoformat(times[-3])
    found = stable.load("ubuntu").searchTasks(
        status=EVERY, omit_duplicates=False, modified_since=since, order_by=["date_last_updated"]
    )
    assert all(task.bug.date_last_updated > since for task in found)


def test_the_library_reads_proposals_with_comments_and_votes(stable: Any, archive: Archive) -> None:
    proposal = max(archive.proposals.values(), key=lambda each: len(each.comments))
    found = stable.load(proposal.path)
    assert [each.id for each in found.all_comments] == [each.id for each in proposal.comments]
    assert len(list(found.votes)) == len(proposal.votes)
    every = stable.people[proposal.owner].getMergeProposals(
        status=["Work in progress", "Needs review", "Approved", "Merged", "Superseded", "Rejected"]
    )
    own = [each for each in archive.proposals.values() if each.owner == proposal.owner]
    assert len(list(every)) == len(own)


def test_questions_are_in_the_development_version_only(
    stable: Any, devel: Any, archive: Archive
) -> None:
    who = next(iter(archive.people))
    found = list(devel.people[who].searchQuestions(sort="oldest first"))
    assert {each.id for each in found} == {
        number
        for number, each in archive.questions.items()
        if who in each.people() and each.status not in {"Expired", "Invalid"}
    }
    assert [each.id for each in found] == sorted(each.id for each in found)
    messages = requests.get(found[0].messages_collection_link, timeout=60).json()["entries"]
    assert [m["index"] for m in messages] == [
        m.index for m in archive.questions[found[0].id].messages
    ]
    with pytest.raises(AttributeError):
        _ = stable.people[who].searchQuestions


def test_the_development_version_links_totals(server: FakeServer) -> None:
    query = {"ws.op": "searchTasks", "status": json.dumps(EVERY), "ws.size": 2}
    assert get(server, "1.0/alpha", **query).json()["total_size"] > 2
    page = get(server, "devel/alpha", **query).json()
    assert "total_size" not in page
    assert requests.get(page["total_size_link"], timeout=60).json() > 2


def test_pages_join_and_are_never_larger_than_allowed(server: FakeServer) -> None:
    query: dict[str, Any] = {"ws.op": "searchTasks", "status": json.dumps(EVERY), "ws.size": 7}
    url, seen = f"{server.url}/1.0/alpha", []
    page = requests.get(url, params=query, timeout=60).json()
    total = page["total_size"]
    while True:
        seen += [entry["self_link"] for entry in page["entries"]]
        if "next_collection_link" not in page:
            break
        page = requests.get(page["next_collection_link"], timeout=60).json()
    assert len(seen) == len(set(seen)) == total
    assert get(server, "1.0/alpha", **{**query, "ws.size": 301}).status_code == 400


def test_what_is_not_there_and_what_is_not_understood_is_refused(
    stable: Any, server: FakeServer
) -> None:
    with pytest.raises(NotFound):
        stable.load("bugs/999999")
    with pytest.raises(KeyError):
        stable.people["nobody-at-all"]
    with pytest.raises(BadRequest):
        list(stable.load("alpha").searchTasks(status=["Broken"]))
    assert requests.post(f"{server.url}/1.0/bugs/1", timeout=60).status_code == 405


def test_a_token_is_checked_and_a_nonce_is_good_once(tmp_path: Path) -> None:
    archive = generate(3, people=2)
    archive.bugs[2].private = True
    with serve(archive, accepted=["app:key:secret"]) as server:
        with logged_in(server, tmp_path) as anonymous, pytest.raises(Unauthorized):
            anonymous.load("bugs/2")
        known = Credentials("app", access_token=AccessToken("key", "secret"))
        signed: dict[str, str] = {}
        known.authorizeRequest(f"{server.url}/1.0/bugs/2", "GET", None, signed)
        url = f"{server.url}/1.0/bugs/2"
        assert requests.get(url, headers=signed, timeout=60).json()["id"] == 2
        again = requests.get(url, headers=signed, timeout=60)
        assert (again.status_code, "nonce" in again.text) == (401, True)
        wrong = Credentials("app", access_token=AccessToken("key", "guess"))
        wrong.authorizeRequest(url, "GET", None, signed)
        assert requests.get(url, headers=signed, timeout=60).status_code == 401


def test_the_same_seed_makes_the_same_archive() -> None:
    assert expected_counts(generate(50, seed=4)) == expected_counts(generate(50, seed=4))
    assert expected_counts(generate(50, seed=4)) != expected_counts(generate(50, seed=5))


def test_it_counts_what_it_holds_from_the_command_line() -> None:
    command = [sys.executable, "-m", "tests.fakes.launchpad", "--generate", "20", "--seed", "2"]
    done = subprocess.run([*command, "--count"], capture_output=True, check=True, timeout=60)
    counted = json.loads(done.stdout)
    assert counted["events"] == expected_counts(generate(20, seed=2))
    assert "alpha" in counted["targets"]


def test_what_is_no_recording_is_refused_with_its_name(tmp_path: Path) -> None:
    broken = tmp_path / "tasks.jsonl"
    broken.write_text('{"data": {}}\n')
    command = [sys.executable, "-m", "tests.fakes.launchpad", "--data", str(broken)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, text=True)
    assert done.returncode == 1
    assert str(broken) in done.stderr


def test_all_times_are_in_utc(archive: Archive) -> None:
    for bug in archive.bugs.values():
        assert datetime.fromisoformat(bug.updated).tzinfo == UTC
