"""The preview: the same strategies as a load, and no warehouse anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.control.cli import session
from temporaletl.control.cli.views.preview import print_preview
from temporaletl.control.operations.preview import StreamPreview, preview
from temporaletl.errors import ConfigurationError, SourceUnavailableError
from temporaletl.messages import QueuerInput
from tests.integration.flows.numbers import outages


@pytest.fixture(autouse=True)
def no_warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "WPE_DB_HOST", "TEMPORAL_ADDRESS", "TEMPORAL_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "configure_logs", lambda **_: None)


def asked(**params: Any) -> QueuerInput:
    return QueuerInput(source="numbers", mode="full", params=params)


async def previewed(request: QueuerInput, *, limit: int) -> list[StreamPreview]:
    async with session.open_platform() as platform:
        return await preview(platform, request, limit=limit)


async def test_the_first_rows_are_taken_and_no_more_is_read_than_they_need() -> None:
    [found] = await previewed(asked(jobs=3, pages=4, size=5), limit=7)
    assert [row.event_id for row in found.rows] == [f"0:{value}" for value in range(7)]  # type: ignore[attr-defined]
    assert (found.records, found.jobs, found.complete) == (7, 1, False)


async def test_all_there_is_is_known_as_such() -> None:
    [found] = await previewed(asked(jobs=2, pages=1, size=3), limit=100)
    assert (len(found.rows), found.jobs, found.complete) == (6, 2, True)


async def test_records_that_would_be_rejected_are_told_with_their_reason() -> None:
    [found] = await previewed(asked(size=5, bad_every=2), limit=100)
    assert len(found.rows) == 2
    assert [reject.key for reject in found.rejects] == ["0:0", "0:2", "0:4"]
    assert found.rejects[0].reason == "0 is a bad number"


async def test_what_is_not_ready_yet_is_waited_for() -> None:
    [found] = await previewed(asked(size=3, unready=True), limit=100)
    assert [row.event_id for row in found.rows] == ["0:0", "0:1", "0:2"]  # type: ignore[attr-defined]
    assert found.complete


async def test_the_sources_errors_are_its_own() -> None:
    with pytest.raises(ConfigurationError, match="job 0 is poisoned"):
        await previewed(asked(poisoned=0), limit=1)
    outages.add("preview")
    try:
        with pytest.raises(SourceUnavailableError):
            await previewed(asked(outage="preview"), limit=1)
    finally:
        outages.discard("preview")


async def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        await previewed(asked(colour="red"), limit=1)


def test_the_document_is_a_list_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_preview(asked(size=3, bad_every=2), limit=10, as_json=True)
    captured = capsys.readouterr()
    [row] = json.loads(captured.out)
    assert row["event_id"] == "0:1"
    assert row["event_time_utc"] == "2024-01-01T00:00:01Z"
    assert "would be rejected: 0:0: 0 is a bad number" in captured.err
    assert "nothing was written" in captured.err


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_preview(asked(size=2), limit=10, as_json=False)
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["event_id", "event_type", "event_time_utc"]
    assert first.split()[:3] == ["0:0", "number_counted", "2024-01-01"]
    assert second.startswith("0:1")
