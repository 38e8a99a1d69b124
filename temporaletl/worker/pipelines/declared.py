"""What definitions may name where this process runs: sources, tables, secrets."""

from temporaletl.strategies import queries, transformers
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipelines import loaded_tables
from temporaletl.warehouse.views import views
from temporaletl.worker.loading.columns import layout_of
from temporaletl.worker.pipelines.databases import known_databases
from temporaletl.worker.pipelines.secrets import SecretStore
from temporaletl.worker.pipelines.surroundings import Surroundings

#: Of the platform, beside those that begin with `etl_`.
_PLATFORM_TABLES = {"collection_members", "collections", "source_connections"}


def find_surroundings(
    warehouse: Warehouse | None = None, *, pipeline: str | None = None, secrets: bool = True
) -> Surroundings:
    """What definitions may name here; the sources must have been imported.

    With a warehouse, also the keys of the tables that other pipelines than `pipeline` load. Where
    others than this process run what is checked (not `secrets`), it does not know all of theirs,
    nor their databases unless PIPELINE_DATABASES is set here, too.
    """
    sources = frozenset(queries)
    rows = {row for name in transformers for row in transformers.get(name).rows}
    tables = {layout_of(row).table for row in rows}
    partitions = {f"{source}_events" for source in sources}
    shown = {view.name for view in views()}
    databases = known_databases()
    if databases is None and secrets:
        databases = {}
    return Surroundings(
        sources=sources,
        reserved=tables | partitions | shown | _PLATFORM_TABLES,
        keys=None if warehouse is None else loaded_tables(warehouse, besides=pipeline),
        databases=databases,
        writable=databases and [name for name, one in databases.items() if one.writable],
        secrets=SecretStore().variables(),
        all_secrets=secrets,
    )
