"""Orgs from recorded tables: CSV files as a warehouse connector writes them."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xxhash

from tests.fakes.salesforce.org import Org
from tests.fakes.salesforce.schema import TYPES, make_id


class RecordedDataError(Exception):
    """A file is not in the expected form; the message says which and why."""


#: By a part of the file's name: the object whose rows it holds.
_FILES = {
    "user_data": "User",
    "task_data": "Task",
    "event_data": "Event",
    "opportunity_history_data": "OpportunityHistory",
    "opportunity_data": "Opportunity",
    "case_data": "Case",
}


def load(paths: list[str] | list[Path]) -> Org:
    """Read files, or every known file of a folder.

    Raises:
        RecordedDataError: a file holds nothing that is known here.
    """
    org = Org()
    files = [each for path in map(Path, paths) for each in _files_in(path)]
    if not files:
        raise RecordedDataError(f"no tables in {', '.join(map(str, paths))}")
    for path in files:
        name = next((kind for part, kind in _FILES.items() if part in path.name), None)
        if name is None:
            raise RecordedDataError(f"{path.name}: not one of *{'*, *'.join(_FILES)}*")
        for row in _rows(path):
            fields = _fields(row, name)
            if not fields.get("Id"):
                raise RecordedDataError(f"{path.name}: a row without id")
            org.rows[name][fields["Id"]] = fields
    org.note_edits()
    return org


def _files_in(path: Path) -> list[Path]:
    if path.is_dir():
        return [each for each in sorted(path.glob("*.csv")) if any(p in each.name for p in _FILES)]
    if not path.is_file():
        raise RecordedDataError(f"there is no file {path}")
    return [path]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def _fields(row: dict[str, str], name: str) -> dict[str, Any]:
    of = TYPES[name]
    columns = {_api_name(column): text for column, text in row.items()}
    fields = {
        each: _value(columns.get(each, ""), kind, nullable=each != "IsDeleted")
        for each, kind in of.fields.items()
    }
    synced = _value(row["_fivetran_synced"], "datetime")
    if name == "OpportunityHistory":
        # The connector's own history: the row as it was from a time on.
        since = row["_fivetran_start"]
        number = xxhash.xxh3_64_intdigest(f"{row['id']} {since}".encode()) % 62**9
        fields |= {
            "Id": make_id(of.prefix, number),
            "OpportunityId": row["id"],
            "CreatedDate": _value(since, "datetime"),
            "SystemModstamp": _value(since, "datetime"),
        }
    fields["CreatedDate"] = fields.get("CreatedDate") or synced
    fields["SystemModstamp"] = fields.get("SystemModstamp") or synced
    return fields


def _api_name(column: str) -> str:
    if column.endswith("_c"):
        return "_".join(part.title() for part in column[:-2].split("_")) + "__c"
    return "".join(part.title() for part in column.split("_"))


def _value(text: str, kind: str, *, nullable: bool = True) -> Any:
    if kind == "boolean":
        return text.lower() == "true" if text or not nullable else None
    read = _READ.get(kind, str)
    return read(text) if text else None


_READ: dict[str, Callable[[str], Any]] = {
    "datetime": lambda text: f"{text[:10]}T{text[11:19] or '00:00:00'}.000+0000",
    "date": lambda text: text[:10],
    "double": float,
    "int": lambda text: int(float(text)),
}
