"""Row classes of tables that pipelines declare."""

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast

import msgspec

from temporaletl.errors import ConfigurationError
from temporaletl.rows import Json, Row
from temporaletl.worker.sources.pipeline.query import PipelineQuery

_TYPES: dict[str, Any] = {
    "text": str,
    "integer": int,
    "number": float,
    "decimal": Decimal,
    "boolean": bool,
    "date": date,
    "timestamp": datetime,
    "json": Json,
}


def row_class(query: PipelineQuery) -> type[Row]:
    """The row class of a query's table: the same one for the same columns, while it is in use.

    Raises:
        ConfigurationError: a column has a type that there is not.
    """
    return _made(query.table, query.key, tuple(query.columns.items()))


@lru_cache(maxsize=256)
def _made(table: str, key: tuple[str, ...], columns: tuple[tuple[str, str], ...]) -> type[Row]:
    fields: list[Any] = []
    for name, kind in columns:
        if kind not in _TYPES:
            raise ConfigurationError(f"{table}.{name}: {kind!r} is no type of a column")
        found = _TYPES[kind]
        if name in key:
            fields.append((name, found))
        else:
            fields.append((name, found | None, None))
    made = msgspec.defstruct(
        "".join(part.capitalize() for part in table.split("_")),
        fields,
        bases=(Row,),
        namespace={"table": table, "key": key, "comment": "Rows that pipelines load."},
        frozen=True,
        kw_only=True,
        gc=False,
    )
    return cast("type[Row]", made)
