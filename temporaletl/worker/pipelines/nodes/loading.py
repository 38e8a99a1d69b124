"""Nodes that read and write databases, and load: database, load, source."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from temporaletl.messages import Mode
from temporaletl.rows import Row
from temporaletl.worker.pipelines.nodes.fields import Expr, Filled, NodeData, TemplateField

#: Names of tables and columns that definitions may use.
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,54}$")]
ColumnType = Literal["text", "integer", "number", "decimal", "boolean", "date", "timestamp", "json"]


#: What classes of rows, and PostgreSQL's tables, have beside their columns.
_NO_COLUMNS = frozenset(Row.__annotations__) | {"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"}


class DatabaseData(NodeData):
    """`database`: a statement on a named connection.

    `query` reads with a statement of one's own and parameters; the others write `rows`.
    """

    connection: str
    operation: Literal["query", "insert", "update", "upsert"]
    query: str | None = None
    params: Annotated[dict[str, JsonValue], TemplateField(secrets=True)] = Field(
        default_factory=dict
    )
    table: Identifier | None = None
    key: tuple[Identifier, ...] = ()
    rows: Expr | None = None
    max_rows: int = Field(10_000, ge=1, le=1_000_000)

    @property
    def writes(self) -> bool:
        return self.operation != "query"

    @model_validator(mode="after")
    def _of_operation(self) -> Self:
        if self.operation == "query":
            if not self.query or self.table or self.rows or self.key:
                raise ValueError("query needs query, and has no table, key or rows")
            if "{{" in self.query:
                raise ValueError("a statement has no holes: pass values in params, by name")
        elif self.query or not (self.table and self.rows):
            raise ValueError(f"{self.operation} needs table and rows, and has no query")
        elif self.operation != "insert" and not self.key:
            raise ValueError(f"{self.operation} needs key: the columns that tell rows apart")
        return self


class LoadData(NodeData):
    """`load`: rows of a table in the warehouse, exactly once: with pages, ledger and rejects."""

    table: Identifier
    key: tuple[Identifier, ...] = Field(min_length=1)
    columns: dict[Identifier, ColumnType] = Field(min_length=1)
    rows: Expr
    #: Share of the records; None as ETL_REJECT_THRESHOLD says.
    max_rejected: float | None = Field(None, ge=0, le=1)
    timeout_seconds: float = Field(86_400, gt=0, le=7 * 86_400)

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        missing = [name for name in self.key if name not in self.columns]
        if missing:
            raise ValueError(f"key names {', '.join(missing)}, which columns does not")
        taken = [name for name in self.columns if name in _NO_COLUMNS]
        if taken:
            raise ValueError(f"no column can be called {', '.join(taken)}: choose other names")
        return self


class SourceData(NodeData):
    """`source`: a run of a registered source; its result is the run's summary."""

    source: str
    connection: str = "default"
    mode: Mode = "incremental"
    streams: tuple[str, ...] = ()
    params: Filled = None
    timeout_seconds: float = Field(86_400, gt=0, le=7 * 86_400)
