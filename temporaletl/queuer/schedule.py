"""`python schedule.py <source_kind_id> [day_of_week] [hour]`: when a source is synced.

`python schedule.py jira 1 3` syncs Jira on Mondays at 03:00 UTC.
"""

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from temporaletl.command import be_command
from temporaletl.connect import connect
from temporaletl.connection_providers import provided
from temporaletl.connections import DEFAULT
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.messages import QueuerInput
from temporaletl.queuer.scheduling import (
    Overlap,
    Put,
    make_schedule,
    put_schedule,
    put_sentence,
)
from temporaletl.settings import TemporalSettings, WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import StoredConnections, stored_connections

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def schedule(
    source_kind_id: Annotated[str, typer.Argument(help="The source to sync, e.g. jira.")],
    day_of_week: Annotated[
        str, typer.Argument(help="0 or 7 is Sunday, 1 Monday; ranges (1-5), lists (1,3) or *.")
    ] = "*",
    hour: Annotated[str, typer.Argument(help="0 to 23; ranges, lists or *.")] = "0",
    timezone: Annotated[str, typer.Option(help="IANA time zone of day and hour.")] = "UTC",
    overlap: Annotated[
        Overlap, typer.Option(help="What happens while the last run still goes on.")
    ] = Overlap.SKIP,
    catchup_window_minutes: Annotated[
        float, typer.Option(help="How late a run that was missed may still start.")
    ] = 60,
    mode: Annotated[str, typer.Option(help="incremental or full.")] = "incremental",
    connection: Annotated[
        str, typer.Option(help="Which of the source's connections to sync.")
    ] = DEFAULT,
) -> None:
    """Create or update the schedule of a source; a paused schedule stays paused."""
    import_sources("temporaletl.queuer.sources")
    if mode not in ("incremental", "full"):
        raise ConfigurationError(f"mode {mode!r} is not one a schedule can have: incremental, full")
    settings = TemporalSettings.load()
    request = QueuerInput(
        source=source_kind_id,
        connection=connection,
        mode="full" if mode == "full" else "incremental",
    )
    with provided(_stored(connection)):
        described = make_schedule(
            request,
            day_of_week=day_of_week,
            hour=hour,
            time_zone=timezone,
            overlap=overlap,
            catchup_window=timedelta(minutes=catchup_window_minutes),
            task_queue=settings.queuer_queue,
        )

    async def put() -> Put:
        client = await connect(settings)
        return await put_schedule(client, source_kind_id, described, connection=connection)

    done = asyncio.run(put())
    typer.echo(
        put_sentence(source_kind_id, day_of_week, hour, timezone, done, connection=connection)
    )


def _stored(connection: str) -> StoredConnections | None:
    """The warehouse's connections; None where they cannot matter, or no warehouse is configured."""
    settings = WarehouseSettings.load()
    if connection == DEFAULT or not settings.is_configured:
        return None
    try:
        with Warehouse(settings, max_connections=1) as warehouse:
            warehouse.check()
            return stored_connections(warehouse)
    except ETLError as error:
        return StoredConnections(fault=str(error))


if __name__ == "__main__":
    be_command(app, "schedule.py")
