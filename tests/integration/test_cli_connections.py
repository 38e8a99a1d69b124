"""The commands, and both services, over a named connection beside `default`."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from temporaletl.rows import Reject
from temporaletl.warehouse.connection import Warehouse
from tests.far_times import FAR_DAY
from tests.integration.command_line import CommandLine, finished, publish_numbers
from tests.integration.flows.services import running
from tests.integration.loading.jobs import Job
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

NAMED = ("--connection", "acme")


@pytest_asyncio.fixture
async def etl(
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[CommandLine]:
    publish_numbers(tmp_path)
    file = tmp_path / "connections.toml"
    file.write_text('[acme]\nsource = "numbers"\n')
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    async with running(temporal_server.client, warehouse, segment_seconds=1) as services:
        made = CommandLine(services, tmp_path, postgres_url)
        yield made.having(ETL_CONNECTIONS=str(file))


async def test_a_run_over_a_connection_is_its_own_from_id_to_rows(etl: CommandLine) -> None:
    arguments = ("run", "numbers", "--mode", "full", "--wait", "--json")
    default, named = [await etl(*arguments, *more) for more in ((), NAMED)]
    assert (default.status, named.status) == (0, 0), named.err
    for document, label, connection in (
        (default.document, "numbers", "default"),
        (named.document, "numbers@acme", "acme"),
    ):
        assert document["workflow_id"].startswith(f"etl-{label}-full-")
        assert document["batch_id"].startswith(f"{label}-full-")
        assert (document["connection"], document["rows"]["inserted"]) == (connection, 10)
    jobs = etl.services.rows("SELECT connection, job_id, workflow_id FROM etl_jobs")
    assert {connection for connection, _, _ in jobs} == {"default", "acme"}
    assert len({workflow for _, _, workflow in jobs}) == 2
    found = etl.services.rows("SELECT connection, count(*) FROM events GROUP BY 1")
    assert set(found) == {("default", 10), ("acme", 10)}

    # Temporal knows runs of other tests, too.
    listed = {run["workflow_id"]: run for run in (await etl("status", "--json")).document}
    for document in (default.document, named.document):
        run = listed[document["workflow_id"]]
        assert run["connection"] == document["connection"]
    one = await etl("status", named.document["batch_id"])
    assert one.out.startswith("numbers@acme full completed")


async def test_state_and_rejects_are_shown_and_moved_by_connection(etl: CommandLine) -> None:
    for more in ((), NAMED):
        assert (await etl("run", "numbers", "--wait", *more)).status == 0
    moved = await etl("state", "set", "numbers", "--watermark", "2024-01-01", *NAMED)
    assert moved.out.startswith("numbers@acme all: the next incremental run begins at")
    known = (await etl("state", "show", "numbers", "--json")).document
    states = {each["connection"]: each for each in known}
    assert states["acme"]["watermark"] == "2024-01-01T00:00:00+00:00"
    assert states["default"]["watermark"] > "2024-01-02"
    shown = await etl("state", "show", "numbers", *NAMED)
    assert "numbers@acme all" in shown.out
    assert "numbers all" not in shown.out

    broken = Reject(stage="transform", reason="no number", key="7", payload={"value": 7})
    job = Job(etl.services.warehouse, source="numbers", stream="all", connection="acme")
    job.load(rejects=[broken])
    job.end()
    assert (await etl("rejects", "list", "numbers", "--json")).document == []
    [reject] = (await etl("rejects", "list", "numbers", "--json", *NAMED)).document
    assert (reject["connection"], reject["key"]) == ("acme", "7")


async def test_each_connection_has_a_schedule_of_its_own(etl: CommandLine) -> None:
    made = [await etl("schedule", "numbers", FAR_DAY, "3", *more) for more in ((), NAMED)]
    assert [each.out.partition(":")[0] for each in made] == [
        "created etl-schedule-numbers",
        "created etl-schedule-numbers@acme",
    ]
    paused = await etl("schedule-pause", "numbers", *NAMED)
    assert "`etl schedule-resume numbers --connection acme`" in paused.out
    listed = [
        each for each in (await etl("schedules", "--json")).document if each["source"] == "numbers"
    ]
    assert {each["connection"]: each["paused"] for each in listed} == {
        "default": False,
        "acme": True,
    }
    for more in ((), NAMED):
        assert (await etl("schedule-delete", "numbers", *more)).status == 0
    gone = await etl("schedule-resume", "numbers", *NAMED)
    assert "`etl schedule numbers --connection acme` makes one" in gone.err


@pytest.mark.parametrize("command", ["run", "preview", "check", "schedule"])
async def test_a_connection_that_is_not_there_is_refused(etl: CommandLine, command: str) -> None:
    refused = await etl(command, "numbers", "--connection", "beta")
    assert (refused.status, refused.out) == (2, "")
    assert "connections.toml has no connection 'beta'; it has acme" in refused.err


@pytest.mark.parametrize("text", ['[beta]\nsource = "juri"\n', "no TOML"])
async def test_a_fault_in_the_file_hides_no_schedule(
    etl: CommandLine, text: str, tmp_path: Path
) -> None:
    for more in ((), NAMED):
        assert (await etl("schedule", "numbers", FAR_DAY, "3", *more)).status == 0
    file = tmp_path / "connections.toml"
    whole = file.read_text()
    file.write_text(whole + text)
    try:
        listed, told = await etl("schedules", "--json"), await etl("schedules")
    finally:
        file.write_text(whole)
        for more in ((), NAMED):
            assert (await etl("schedule-delete", "numbers", *more)).status == 0
    assert (listed.status, told.status) == (2, 2)
    assert {"default", "acme"} <= {
        each["connection"] for each in listed.document if each["source"] == "numbers"
    }
    assert "numbers@acme" in told.out
    for each in (listed, told):
        [fault] = each.err.splitlines()
        assert "connections.toml" in fault


_LOOKS = [
    ("rejects", "list"),
    ("identities", "list"),
    ("identities", "fill"),
    ("state", "show"),
    ("state", "reset"),
    ("state", "reset", "--unblock"),
]


@pytest.mark.parametrize("command", _LOOKS, ids=" ".join)
async def test_of_a_connection_that_nothing_knows_there_is_no_list_either(
    etl: CommandLine, command: tuple[str, ...]
) -> None:
    first, second, *more = command
    refused = await etl(first, second, "numbers", "--connection", "beta", *more)
    assert (refused.status, refused.out) == (2, "")
    assert "connections.toml has no connection 'beta'; it has acme" in refused.err


async def test_what_a_removed_connection_left_is_listed_and_cleared(etl: CommandLine) -> None:
    assert (await etl("run", "numbers", "--wait", *NAMED)).status == 0
    removed = etl.having(ETL_CONNECTIONS="")
    for first, second, *more in _LOOKS:
        if second != "reset":
            assert (await removed(first, second, "numbers", *NAMED, *more)).status == 0
    misspelt = await removed("state", "reset", "numbers", "--stream", "none", *NAMED)
    assert (misspelt.status, "no stream 'none'" in misspelt.err) == (2, True)
    moved = await removed("state", "set", "numbers", "--watermark", "2024-01-01", *NAMED)
    assert (moved.status, "there is no connection 'acme'" in moved.err) == (2, True)
    cleared = await removed("state", "reset", "numbers", *NAMED)
    assert cleared.out == "numbers@acme all: the next incremental run begins at the beginning\n"
    [state] = (await removed("state", "show", "numbers", "--json", *NAMED)).document
    assert state["watermark"] is None
    lifted = await removed("state", "reset", "numbers", "--unblock", *NAMED)
    assert (lifted.status, "is not rate-limited" in lifted.out) == (0, True)


async def test_connections_are_listed_and_checked(etl: CommandLine) -> None:
    listed = await etl("connections", "list", "--json")
    assert listed.document == [
        {
            "name": "acme",
            "source": "numbers",
            "settings": [],
            "secrets": [],
            "fault": None,
            "origin": "file",
            "connection_id": None,
            "version": None,
        }
    ]
    checked = await etl("connections", "check", "acme")
    assert (checked.status, checked.out.splitlines()[0]) == (0, "acme (numbers)")
    unknown = await etl("connections", "check", "beta")
    assert (unknown.status, "no connection 'beta'" in unknown.err) == (2, True)
    none = await etl.having(ETL_CONNECTIONS="")("connections", "list")
    assert none.out.startswith("Only `default`")


async def test_a_connection_of_the_warehouse_is_loaded_like_any_other(etl: CommandLine) -> None:
    made = await etl("connections", "create", "north", "--source", "numbers")
    assert (made.status, made.out) == (0, "created connection numbers@north, version 1\n"), made.err
    north = ("--connection", "north")
    ran = await etl("run", "numbers", "--mode", "full", "--wait", "--json", *north)
    assert (ran.status, ran.document["rows"]["inserted"]) == (0, 10), ran.err
    assert set(etl.services.rows("SELECT connection FROM events")) == {("north",)}
    for words in (("preview",), ("check",), ("schedule", FAR_DAY)):
        assert (await etl(words[0], "numbers", *words[1:], *north)).status == 0, words
    listed = (await etl("connections", "list", "--json")).document
    assert {one["name"]: one["origin"] for one in listed} == {"acme": "file", "north": "warehouse"}

    scheduled = await etl("connections", "delete", "north")
    assert (scheduled.status, scheduled.out) == (1, "")
    assert "`etl schedule-delete numbers --connection north`" in scheduled.err
    assert (await etl("schedule-delete", "numbers", *north)).status == 0
    gone = await etl("connections", "delete", "north")
    assert gone.out == (
        "deleted connection numbers@north; its rows stay, its watermarks are deleted\n"
    )
    refused = await etl("run", "numbers", *north)
    assert (refused.status, "connections.toml has no connection 'north'" in refused.err) == (
        2,
        True,
    )
    assert len(etl.services.rows("SELECT FROM events")) == 10


async def test_a_run_whose_connection_is_deleted_meanwhile_fails_and_moves_nothing(
    etl: CommandLine,
) -> None:
    assert (await etl("connections", "create", "north", "--source", "numbers")).status == 0
    process = await etl.start(
        *("run", "numbers", "--mode", "full", "--wait", "--json", "--connection", "north"),
        *("--param", "pages=600", "--param", "page_seconds=0.2"),
    )
    await until(lambda: bool(etl.services.rows("SELECT FROM etl_pages")))
    busy = await etl("connections", "delete", "north")
    assert (busy.status, "`etl cancel etl-numbers@north-full-" in busy.err) == (1, True)
    assert (await etl("connections", "delete", "north", "--force")).status == 0
    ended = await finished(process)
    assert ended.status == 1
    [(state, error)] = etl.services.rows("SELECT state, error FROM etl_jobs")
    assert (state, "has no connection 'north'" in error) == ("failed", True)
    assert etl.services.rows("SELECT FROM etl_sync_state WHERE watermark IS NOT NULL") == []
