"""The faults of the fake Jira: what a client sees of each, and that they repeat by seed."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.certificates import Authority
from tests.fakes.faults import Faults, FaultSpecError
from tests.fakes.jira import expected_counts, generate, serve
from tests.fakes.jira.__main__ import COMMAND
from tests.fakes.jira.service import OWN_FAULTS
from tests.fakes.server import FakeServer
from tests.integration.trino_relay import over_tls

Json = dict[str, Any]
Get = Callable[..., requests.Response]

ROOT = Path(__file__).resolve().parents[2]
SEARCH = "/rest/api/3/search/jql"


@contextmanager
def faulty(*faults: str, issues: int = 40, **more: Any) -> Iterator[tuple[FakeServer, Get]]:
    personality = more.pop("personality", "cloud")
    site = generate(issues, seed=3, personality=personality)
    with serve(site, faults=faults, **more) as server, requests.Session() as session:

        def get(path: str, **params: Any) -> requests.Response:
            return session.get(server.url + path, params=params, timeout=60)

        yield server, get


def test_429_tells_how_long_to_wait_in_seconds() -> None:
    with faulty("429:1") as (server, get):
        answer = get("/rest/api/3/myself")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert answer.headers["RateLimit-Reason"]
        assert answer.headers["X-RateLimit-Remaining"] == "0"
        assert "errorMessages" in answer.json()
        get("/rest/api/3/myself")
        assert server.traffic.statuses[429] == 2
        assert server.traffic.during_pause == 1


def test_429_may_name_a_date_instead() -> None:
    with faulty("429-date:1") as (_, get):
        asked = time.time()
        until = parsedate_to_datetime(get("/rest/api/3/myself").headers["Retry-After"])
        assert asked < until.timestamp() <= time.time() + 3


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_answers_with_a_page_and_no_advice(status: int) -> None:
    with faulty(f"{status}:1:1") as (_, get):
        answer = get("/rest/api/3/myself")
        assert answer.status_code == status
        assert "Retry-After" not in answer.headers
        assert answer.headers["Content-Type"] == "text/html"
        assert get("/rest/api/3/myself").status_code == 200


def test_a_reset_strikes_in_the_middle_of_the_body() -> None:
    with faulty("reset:1:1") as (server, get):
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="reset"):
            get("/rest/api/3/field")
        assert get("/rest/api/3/field").status_code == 200
        assert [each.fault for each in server.traffic.requested("field")] == ["reset", None]


def test_a_hang_lasts_until_the_client_gives_up() -> None:
    with faulty("hang:1:1") as (server, _):
        with pytest.raises(requests.ReadTimeout):
            requests.get(server.url + "/rest/api/3/field", timeout=0.05)
        assert requests.get(server.url + "/rest/api/3/field", timeout=60).status_code == 200


def test_a_hang_ends_when_the_fake_closes() -> None:
    server = serve(generate(1), faults=["hang:1"]).start()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /rest/api/3/field HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.traffic.in_flight:
            os.sched_yield()
        server.close()
        assert connection.recv(100) == b""


def test_a_hang_over_tls_ends_when_the_client_gives_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("fake")
    (tmp_path / "server.pem").write_text(signed.key.read_text() + signed.certificate.read_text())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(authority.certificate)
    with over_tls(serve(generate(1), faults=["hang:1"]), tmp_path) as server:
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            client.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(b"GET /rest/api/3/field HTTP/1.1\r\nHost: x\r\n\r\nand more")
            while not server.traffic.in_flight:
                os.sched_yield()
        while server.traffic.in_flight:
            os.sched_yield()
    assert capsys.readouterr().err == ""


def test_a_hang_is_bounded() -> None:
    with faulty("hang:1:1") as (server, get):
        server.faults.hang = timedelta(milliseconds=10)
        with pytest.raises(requests.ConnectionError):
            get("/rest/api/3/field")


def test_a_token_expires_once_and_not_at_the_start() -> None:
    with faulty("expired-token:1") as (_, get):
        assert [get("/rest/api/3/field").status_code for _ in range(4)] == [200, 401, 200, 200]


def test_an_expired_page_token_stays_expired() -> None:
    with faulty("expired-page-token:1:1") as (_, get):
        token = get(SEARCH, jql="id > 0", maxResults=5).json()["nextPageToken"]
        asked: Json = {"jql": "id > 0", "maxResults": 5, "nextPageToken": token}
        assert [get(SEARCH, **asked).status_code for _ in range(2)] == [400, 400]
        again = get(SEARCH, jql="id > 0", maxResults=5).json()["nextPageToken"]
        assert get(SEARCH, **{**asked, "nextPageToken": again}).status_code == 200


def test_a_page_token_can_repeat() -> None:
    with faulty("repeated-page-token:1") as (_, get):
        token = get(SEARCH, jql="id > 0", maxResults=5).json()["nextPageToken"]
        page = get(SEARCH, jql="id > 0", maxResults=5, nextPageToken=token).json()
        assert page["nextPageToken"] == token


def tokens_walked(get: Get) -> list[list[str]]:
    pages: list[list[str]] = []
    token: Json = {}
    for _ in range(100):
        page = get(SEARCH, jql="id > 0", maxResults=10, **token).json()
        pages.append([issue["id"] for issue in page["issues"]])
        if "nextPageToken" not in page:
            return pages
        token = {"nextPageToken": page["nextPageToken"]}
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("fault", ["short-page:1", "empty-page:0.5"])
def test_short_and_empty_pages_lose_nothing(fault: str) -> None:
    with faulty(fault) as (server, get):
        pages = tokens_walked(get)
        assert len({id_ for page in pages for id_ in page}) == 40
        assert server.faults.injected.total() > 0
        assert len(pages) > 4
        assert ([] in pages) is fault.startswith("empty")


def test_a_server_shows_short_and_empty_pages_and_a_total_too_large() -> None:
    with faulty("empty-page:1:1", "total-too-large:1", personality="server") as (_, get):
        pages = [
            get("/rest/api/2/search", jql="", startAt=start, maxResults=30).json()
            for start in (0, 30, 30)
        ]
        assert [len(page["issues"]) for page in pages] == [30, 0, 10]
        assert {page["total"] for page in pages} == {47}


def test_totals_of_details_can_be_too_large() -> None:
    with faulty("total-too-large:1") as (_, get):
        page = get("/rest/api/3/issue/CORE-1/changelog").json()
        assert page["total"] == len(page["values"]) + 7
        assert page["isLast"] is True


def test_rows_change_between_pages() -> None:
    with faulty("changing-rows:1") as (server, get):
        asked = {"jql": "id > 0 ORDER BY updated", "maxResults": 10}
        first = get(SEARCH, **asked).json()
        second = get(SEARCH, **asked, nextPageToken=first["nextPageToken"]).json()
        again = get(SEARCH, **asked).json()
        assert len([each for each in first["issues"] if each not in again["issues"]]) == 1
        assert again["issues"][-1] not in second["issues"]
        assert server.faults.injected["changing-rows"] == 1


def test_ties_give_many_issues_one_time() -> None:
    with faulty("ties:0.5") as (server, _):
        rows = server.service.site.rows  # type: ignore[attr-defined]
        newest = max(row.updated for row in rows)
        assert 10 <= sum(row.updated == newest for row in rows) <= 30


def test_people_can_be_null_or_missing() -> None:
    with faulty("null-people:1") as (_, get):
        issue = get("/rest/api/3/issue/CORE-1", expand="changelog").json()
        assert issue["fields"]["assignee"] is None
        assert issue["fields"].get("creator") is None
        assert all(each.get("author") is None for each in issue["changelog"]["histories"])


def statuses(seed: int) -> list[int]:
    with faulty("429:0.3", "503:0.2", seed=seed) as (_, get):
        return [get("/rest/api/3/issue/CORE-1", n=n).status_code for n in range(30)]


def test_the_same_seed_injects_the_same_faults() -> None:
    first = statuses(1)
    assert first == statuses(1)
    assert first != statuses(2)
    assert set(first) == {200, 429, 503}


def test_a_fault_is_drawn_anew_for_each_attempt() -> None:
    with faulty("503:0.5") as (_, get):
        assert {get("/rest/api/3/field").status_code for _ in range(20)} == {200, 503}


@pytest.mark.parametrize("spec", ["503", "503:2", "503:x", "503:1:-1", "snow:0.1"])
def test_a_fault_that_makes_no_sense_is_refused(spec: str) -> None:
    with pytest.raises(FaultSpecError):
        Faults([spec])


def test_a_real_limit_on_requests_answers_429() -> None:
    with faulty(requests_per_second=3) as (server, get):
        found = [get("/rest/api/3/field").status_code for _ in range(8)]
        assert found[:3] == [200, 200, 200]
        assert 429 in found
        assert server.traffic.requests == 8


def test_traffic_remembers_what_was_asked() -> None:
    with faulty() as (server, get):
        get("/rest/api/3/issue/CORE-1", fields="summary")
        [asked] = server.traffic.requested("/issue/", method="GET", status=200)
        assert asked.request.first("fields") == "summary"
        assert (server.traffic.most_in_flight, server.traffic.count("/comment")) == (1, 0)


def test_every_fault_is_explained_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        COMMAND.read_options(["--help"])
    shown = capsys.readouterr().out
    for kind in (*OWN_FAULTS, "429", "429-date", "502", "503", "504", "reset", "hang"):
        assert f"\n  {kind} " in shown


def test_it_counts_what_it_would_serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["jira", "--generate", "30", "--seed", "2", "--count"])
    COMMAND.main()
    counted = json.loads(capsys.readouterr().out)
    assert counted == expected_counts(generate(30, seed=2)).as_dict()
    assert counted["changelog_items"] == sum(counted["items_by_field"].values())


def test_it_runs_alone_and_ends_on_request() -> None:
    command = [sys.executable, "-m", "tests.fakes.jira", "--port", "0", "--generate", "3"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline().strip()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.removeprefix("listening on ")
        port = url.rpartition(":")[2]
        assert requests.get(f"{url}/rest/api/3/issue/CORE-1", timeout=60).status_code == 200
        taken = subprocess.run(
            [*command[:4], port, "--generate", "1"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert taken.returncode == 2
        assert taken.stderr.count("\n") == 1
        assert "in use" in taken.stderr
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
