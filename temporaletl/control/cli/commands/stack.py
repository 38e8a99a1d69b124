"""`etl up`, `etl down`, `etl serve`, `etl worker`."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

#: The services may take their grace, one after the other's servers.
_DOWN_WITHIN = timedelta(minutes=2)

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        file_okay=False,
        help="Where the warehouse, Temporal's file and the logs are kept.",
        show_default="ETL_DATA_DIR, or ~/.local/share/temporaletl, root's /var/lib/temporaletl",
    ),
]


def _port(meaning: str, *, default: str | bool = True) -> Any:
    """An option that takes the number of a port."""
    return typer.Option(metavar="PORT", min=0, max=65535, help=meaning, show_default=default)


def _count(text: str) -> int:
    from temporaletl.cores import number_of_processes

    try:
        return number_of_processes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _processes(meaning: str) -> Any:
    """An option that takes a number of processes, or `auto`."""
    return typer.Option(
        parser=_count, metavar="N", help=meaning, show_default="ETL_WORKER_PROCESSES, or 1"
    )


def up(
    data: Data = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin anew: everything in the folder is deleted."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --fresh deletes.")] = False,
    workers: Annotated[
        int | None, _processes("Worker processes, or auto: one for each core, which is plenty.")
    ] = None,
    temporal_port: Annotated[int, _port("Temporal's port, or the next free one; 0: any.")] = 7233,
    postgres_port: Annotated[int, _port("PostgreSQL's port, or the next free one; 0: any.")] = 5432,
    ui: Annotated[
        bool,
        typer.Option(
            "--ui",
            help="Serve Temporal's own web page, too: at port 8233, or the next free one.",
        ),
    ] = False,
) -> int:
    """Run everything on this machine until Ctrl-C: PostgreSQL, Temporal, both services, the API."""
    if fresh and not yes:
        _ask_before_clearing(data)

    from temporaletl.control.api.settings import ApiSettings
    from temporaletl.control.cli.output import note, say
    from temporaletl.control.cli.session import refuse_api
    from temporaletl.embedded import stack
    from temporaletl.embedded.running import default_data_folder

    refuse_api()
    api = ApiSettings.load()
    ui_port = 0 if temporal_port == 0 else 8233
    options = stack.StackOptions(
        data=data or default_data_folder(),
        fresh=fresh,
        workers=workers,
        temporal_port=temporal_port,
        postgres_port=postgres_port,
        ui_port=ui_port if ui else None,
        api=stack.Address(api.host, api.port),
    )
    status = stack.up(
        options, report=say, complain=lambda line: note(f"etl: {line}"), more=_sources
    )
    if status == stack.INTERRUPTED:
        sys.exit(status)  # and it has been said
    return status


def _ask_before_clearing(data: Path | None) -> None:
    from temporaletl.control.cli.output import confirm
    from temporaletl.embedded.running import default_data_folder, left_behind

    folder = (data or default_data_folder()).expanduser()
    if left_behind(folder):
        what = f"the warehouse, Temporal's state and the logs in {folder}"
        confirm(f"Delete {what}?", meaning=f"--fresh deletes {what}")


def _sources() -> Iterator[str]:
    """Which sources a run can be started of, what the others lack, and what is no setting."""
    from temporaletl.connections.declarations import known_sources
    from temporaletl.control.operations.checks import settings_faults
    from temporaletl.errors import ETLError
    from temporaletl.setting_catalogue import unknown_variables

    try:
        faults = settings_faults()
    except ETLError as error:  # a source cannot be imported, or the connections file not be read
        yield f"Sources     {error}"
        return
    ready = ", ".join(each for each, fault in faults.items() if fault is None) or "none"
    yield f"Sources     ready: {ready}"
    for source, fault in faults.items():
        if fault is not None:
            yield f"            {source}: {fault}"
    if any(faults.values()):
        yield "            `etl init SOURCE` asks for what one lacks, tries it, writes it to .env"
    for unknown in unknown_variables(known_sources()):
        yield f"            {unknown}"


def down(data: Data = None) -> int:
    """End what `etl up` runs, from another terminal, and wait until it has ended."""
    from temporaletl.control.cli.output import note, say
    from temporaletl.control.cli.session import refuse_api
    from temporaletl.embedded.running import default_data_folder, end_running

    refuse_api()
    folder = (data or default_data_folder()).expanduser()
    if not end_running(folder, _DOWN_WITHIN):
        note(f"etl: nothing runs on {folder}")
        return 1
    say("Ended.")
    return 0


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST", help="Where it listens.", show_default="ETL_API_HOST, or 127.0.0.1"
        ),
    ] = None,
    port: Annotated[
        int | None, _port("Its port; 0: a free one.", default="ETL_API_PORT, or 8080")
    ] = None,
    next_port: Annotated[
        bool,
        typer.Option("--next-port", help="Where the port is in use, take the next free one."),
    ] = False,
) -> None:
    """Serve the dashboard and the HTTP API until Ctrl-C."""
    from temporaletl.control.api import serving
    from temporaletl.control.api.settings import ApiSettings
    from temporaletl.control.cli.output import note, say
    from temporaletl.control.cli.session import begin_here
    from temporaletl.control.operations.sources import known_planners
    from temporaletl.control.web import dashboard
    from temporaletl.errors import ETLError
    from temporaletl.setting_catalogue import unknown_variables

    begin_here()
    with suppress(ETLError):  # pages and answers say what cannot be imported or read
        for unknown in unknown_variables(known_planners()):
            note(f"etl: {unknown}", style="yellow")
    given = {"host": host, "port": port}
    settings = ApiSettings.load().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    serving.serve(settings, report=say, fronts=(dashboard.install,), next_port=next_port)


def worker(
    processes: Annotated[
        int | None, _processes("Worker processes, or auto: one for each core.")
    ] = None,
) -> None:
    """Run a worker until Ctrl-C, which lets the pages at hand end; a second one ends it at once."""
    from temporaletl.control.cli.session import begin_here
    from temporaletl.worker.__main__ import run

    begin_here()
    run(processes)
