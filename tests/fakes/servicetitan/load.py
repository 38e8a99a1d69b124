"""Tenants from files: one JSON object a line, with `stream` and `record`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tests.fakes.servicetitan.bodies import STREAMS
from tests.fakes.servicetitan.tenant import Collection, Row, Tenant
from tests.fakes.servicetitan.timestamps import parse


class DataError(ValueError):
    """A line of the file is no record."""


class _Line(msgspec.Struct):
    stream: str
    record: dict[str, Any]


def load(paths: Iterable[Path | str], *, number: int = 1234567) -> Tenant:
    """Load a tenant; of a record that occurs twice the last one counts.

    Raises:
        DataError: a line is not `{"stream": ..., "record": {"id": ..., "modifiedOn": ...}}`.
    """
    rows: dict[str, dict[int, Row]] = {stream: {} for stream in STREAMS}
    for path in paths:
        for line_number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                read = msgspec.json.decode(line, type=_Line)
                record = read.record
                modified = parse(record["modifiedOn"])
                created = parse(record.get("createdOn") or record["modifiedOn"])
                active = bool(record.get("active", True))
                row = Row(int(record["id"]), created, modified, active, fields=record)
                rows[read.stream][row.id] = row
            except (msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
                raise DataError(f"{path}, line {line_number}: {error!r}") from None
    return Tenant((Collection(stream, rows[stream].values()) for stream in STREAMS), number=number)
