"""The query of source `pipeline`."""

from temporaletl.query import Query


class PipelineQuery(Query):
    """The node whose rows are loaded, and the table that they are for; see `LoadData`."""

    execution: str
    node: str
    table: str
    key: tuple[str, ...]
    columns: dict[str, str]
    max_rejected: float | None = None
