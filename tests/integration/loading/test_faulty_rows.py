"""A row that cannot be stored becomes a reject; the rest of its page is loaded."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from temporaletl.rows import Reject
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading.jobs import NOON, Job, counts, execute, fetch, make_event

_DEEP: dict[str, Any] = {}
for _ in range(20_000):
    _DEEP = {"deeper": _DEEP}

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "naive time": ({"event_time_utc": datetime(2024, 5, 1)}, "event_time_utc"),  # noqa: DTZ001
    "no time": ({"event_time_utc": "2024-05-01"}, "event_time_utc"),
    "unknown zone": ({"timezone": "Mars/Olympus"}, "unknown time zone 'Mars/Olympus'"),
    "zone outside": ({"timezone": "../../etc/passwd"}, "unknown time zone"),
    "no zone": ({"timezone": None}, "event_time_utc"),
    "local time after the calendar": (
        {"event_time_utc": datetime.max.replace(tzinfo=UTC), "timezone": "Asia/Tokyo"},
        "outside of years 1 to 9999",
    ),
    "surrogate in a text": ({"employee_id": "\ud800"}, "employee_id"),
    "surrogate in the key": ({"event_id": "zz\ud800"}, "event_id"),
    "surrogate in json": ({"metrics": {"a": ["\ud800"]}}, "metrics"),
    "no key": ({"event_id": None}, "event_id"),
    "key of another type": ({"event_id": 7}, "event_id"),
    "None where a text is declared": ({"event_type": None}, "event_type"),
    "unhashable": ({"event_type": ["list"]}, "event_type"),
    "not a number": ({"metrics": {"a": [1, {"b": float("nan")}]}}, "NaN"),
    "infinite": ({"metrics": [None, float("-inf")]}, "NaN nor infinities"),
    "not json": ({"metrics": {"a": object()}}, "metrics"),
    "too deep": ({"metrics": _DEEP}, "metrics"),
    "only the server finds: exponent": (
        {"metrics": msgspec.Raw(b'{"a": 1e999999}')},
        "the warehouse refused the row",
    ),
    "only the server finds: syntax": ({"metrics": msgspec.Raw(b"{")}, "refused"),
    "only the server finds: surrogate": (
        {"metrics": msgspec.Raw(b'{"a": "\\ud800"}')},
        "refused",
    ),
    "only the server finds: key": (
        # Too long for the index, and not to be compressed.
        {"event_id": "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(4000))},
        "index row",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("existing", [False, True], ids=["empty table", "full table"])
def test_only_the_faulty_row_is_rejected(warehouse: Warehouse, fault: str, existing: bool) -> None:
    changes, words = FAULTS[fault]
    job = Job(warehouse)
    good = [*map(make_event, range(40))]
    if existing:
        Job(warehouse).load(*good[10:30], at=NOON - timedelta(days=1))
        good[15] = make_event(15, employee_id="changed")
    progress = job.load(*good[:20], make_event(99, **changes), *good[20:])
    expected = (20, 1, 19, 1) if existing else (40, 0, 0, 1)
    assert counts(progress) == expected
    assert len(fetch(warehouse, "SELECT 1 FROM events")) == 40
    (reject,) = fetch(warehouse, "SELECT * FROM etl_rejects")
    assert reject["stage"] == "load"
    assert words in reject["reason"]
    assert reject["key"]
    assert reject["payload"] is not None
    assert (reject["job_id"], reject["run_id"]) == (job.input.job_id, job.lineage.run_id)


def test_a_changed_row_that_the_server_refuses_leaves_the_stored_one(
    warehouse: Warehouse,
) -> None:
    rows = [*map(make_event, range(20))]
    Job(warehouse).load(*rows)
    execute(warehouse, "ALTER TABLE events ADD CONSTRAINT known CHECK (employee_id <> 'stranger')")
    changed = [make_event(n, employee_id="stranger" if n % 7 == 3 else "E2") for n in range(20)]
    assert counts(Job(warehouse).load(*changed)) == (0, 17, 0, 3)
    found = fetch(warehouse, "SELECT employee_id, count(*) AS n FROM events GROUP BY 1 ORDER BY 1")
    assert found == [{"employee_id": "E1", "n": 3}, {"employee_id": "E2", "n": 17}]
    for row in fetch(warehouse, "SELECT reason FROM etl_rejects"):
        assert "known" in row["reason"]


def test_an_index_that_somebody_added_rejects_its_duplicates(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.loader.prepare()
    execute(warehouse, "CREATE UNIQUE INDEX ON jira_events (parent_item_id)")
    progress = job.load(*(make_event(n, parent_item_id=f"P{n % 8}") for n in range(10)))
    assert counts(progress) == (8, 0, 0, 2)


def test_many_faulty_rows_are_found_one_by_one(warehouse: Warehouse) -> None:
    bad = msgspec.Raw(b"[1e999999]")
    rows = [make_event(n, metrics=bad if n % 50 == 0 else {}) for n in range(1000)]
    assert counts(Job(warehouse).load(*rows)) == (980, 0, 0, 20)


def test_nul_becomes_the_replacement_character(warehouse: Warehouse) -> None:
    Job(warehouse).load(
        make_event(
            1,
            event_id="a\0b",
            employee_id="\0",
            metrics={"k\0": "v\0\0", "kept": "\\u0000", "after a backslash": "\\\0"},
        )
    )
    (row,) = fetch(warehouse, "SELECT event_id, employee_id, metrics FROM events")
    assert row == {
        "event_id": "a�b",
        "employee_id": "�",
        "metrics": {"k�": "v��", "kept": "\\u0000", "after a backslash": "\\�"},
    }


PAYLOADS: dict[str, tuple[Any, Any]] = {
    "json": (b'{"a": [1, 2.50, null]}', {"a": [1, 2.5, None]}),
    "raw": (msgspec.Raw(b'{"a": 1}'), {"a": 1}),
    "no json": (b"<html>", "<html>"),
    "no text": (b"\xff\x00", "��"),
    "nul": (b'{"a\\u0000": "\\u0000"}', {"a�": "�"}),
    "surrogate": (b'{"a": "\\ud800x"}', {"a": "�x"}),
    "pair": (b'{"a": "\\ud83d\\ude80"}', {"a": "🚀"}),
    "huge": (b'{"a": 1e999999}', {"a": "1E+999999"}),
    "NaN": (b"[NaN]", "[NaN]"),
    "large int": (b"[" + b"9" * 400 + b"]", [int("9" * 400)]),
    "object": (
        {"at": NOON, "n": Decimal("1.10"), 1: {"x": "\0"}, "f": float("nan")},
        {
            "at": "2024-05-01T12:00:00Z",
            "n": 1.1,
            "1": {"x": "�"},
            "f": "nan",
        },
    ),
    "row": (make_event(1), None),
    "deep": (b"[" * 100_000, "[" * 100_000),
    "deep json": (b"[" * 3000 + b"]" * 3000, None),
    "none": (None, None),
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_every_payload_is_kept(warehouse: Warehouse, kind: str) -> None:
    payload, expected = PAYLOADS[kind]
    reject = Reject(stage="extract", reason="bad\0 \ud800", key="K\0", payload=payload)
    assert counts(Job(warehouse).load(rejects=[reject])) == (0, 0, 0, 1)
    (row,) = fetch(warehouse, "SELECT * FROM etl_rejects")
    assert (row["reason"], row["key"], row["stage"]) == ("bad� �", "K�", "extract")
    if expected is not None:
        assert row["payload"] == expected


def test_a_reject_met_again_is_counted(warehouse: Warehouse) -> None:
    reject = Reject(stage="transform", reason="no id", key="PROJ-1", payload=b'{"b": 1, "a": 2}')
    same = Reject(stage="transform", reason="no id yet", key="PROJ-1", payload={"a": 2, "b": 1})
    other = Reject(stage="transform", reason="no id", key="PROJ-2", payload={"a": 2, "b": 1})
    Job(warehouse).load(rejects=[reject, other])
    job = Job(warehouse)
    assert counts(job.load(rejects=[same, same])) == (0, 0, 0, 2)
    first, second = fetch(warehouse, "SELECT * FROM etl_rejects ORDER BY key")
    assert (first["times"], first["reason"], first["run_id"]) == (
        3,
        "no id yet",
        job.lineage.run_id,
    )
    assert first["last_seen"] > first["first_seen"]
    assert second["times"] == 1


def test_thousands_of_rejects_are_kept(warehouse: Warehouse) -> None:
    rejects = [Reject(stage="transform", reason="bad", payload={"n": n}) for n in range(2500)]
    assert counts(Job(warehouse).load(rejects=rejects)) == (0, 0, 0, 2500)
    assert len(fetch(warehouse, "SELECT 1 FROM etl_rejects")) == 2500
