"""Recorded tables of a real org, served by the fake: every event that the files hold.

What is expected is counted here from the files, by nothing that the source or the fake uses.
"""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from temporaletl.external.salesforce.employees import read_employees
from temporaletl.external.salesforce.settings import SalesforceSettings
from tests.fakes.salesforce.load import load
from tests.integration.job_reading import Serve, read
from tests.integration.salesforce_reading import jobs_of, served

__all__ = ["served"]

_TABLES = {"opportunity": "opportunity", "task": "task", "event": "event"}


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"dbt_sf_{name}_data.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def counted(folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for table, noun in _TABLES.items():
        rows = {row["id"]: row for row in rows_of(folder, table)}
        counts[f"{noun}_created"] = len(rows)
        counts[f"{noun}_deleted"] = sum(r["is_deleted"].lower() == "true" for r in rows.values())
    versions = {(r["id"], r["_fivetran_start"]) for r in rows_of(folder, "opportunity_history")}
    counts["opportunity_changed"] = len(versions)
    return +counts


@pytest.mark.parametrize("bulk", [{}, {"SF_BULK_ABOVE_ROWS": "3"}])
async def test_recorded_tables_are_found_whole(
    served: Serve, recorded: Path, bulk: dict[str, str]
) -> None:
    folder = recorded / "salesforce"
    served(load([folder]), **bulk, SF_PAGE_SIZE="3")
    found = await read(jobs_of())
    assert not found.rejects
    assert found.types == counted(folder)
    tasks = {row["id"]: row for row in rows_of(folder, "task")}
    for id_, row in tasks.items():
        event = found.events[f"{id_}:created"]
        assert event.person == row["created_by_id"]
        assert event.event_properties["subject"] == row["subject"]
        assert event.event_time_utc == datetime.fromisoformat(row["created_date"]).replace(
            tzinfo=UTC
        )
    worth = {row["id"]: row["amount"] for row in rows_of(folder, "opportunity")}
    for id_, amount in worth.items():
        metrics = found.events[f"{id_}:created"].metrics
        assert metrics.get("amount") == (float(amount) if amount else None)


async def test_recorded_users_are_the_employees(served: Serve, recorded: Path) -> None:
    folder = recorded / "salesforce"
    served(load([folder]))
    users = rows_of(folder, "user")
    found = {each.person: each for each in read_employees(SalesforceSettings.load())}
    assert found.keys() == {row["id"] for row in users}
    for row in users:
        employee = found[row["id"]]
        assert employee.employee_id == (row["employee_number"] or row["id"])
        assert employee.email == (row["email"] or None)
        assert employee.name == (row["name"] or None)
