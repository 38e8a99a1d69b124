"""`etl pipeline`: pipelines defined, checked, drawn, stored, compared and executed."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from temporaletl.control.cli.commands import pipeline_schedules
from temporaletl.control.cli.commands.arguments import AsJson, examples
from temporaletl.errors import ConfigurationError

pipeline = typer.Typer(no_args_is_help=True)

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="A definition: YAML, or JSON where its name ends with .json.",
    ),
]


@pipeline.command(epilog=examples("etl pipeline validate orders.yaml"))
def validate(file: File, as_json: AsJson = False) -> int:
    """Name everything that is wrong with a definition, with its place."""
    from temporaletl.control.cli.views import pipelines as view

    return view.print_validation(file, as_json=as_json)


@pipeline.command(
    epilog=examples(
        "etl pipeline graph orders.yaml > orders.mmd",
        "etl pipeline graph orders.yaml --svg > orders.svg",
    )
)
def graph(
    file: File,
    svg: Annotated[bool, typer.Option("--svg", metavar="", help="As a picture.")] = False,
) -> int:
    """Print the graph of a definition, for Mermaid or as SVG."""
    from temporaletl.control.cli.views import pipelines as view

    return view.print_graph(file, svg=svg)


@pipeline.command(epilog=examples("etl pipeline schema > pipeline.schema.json"))
def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from temporaletl.control.cli.views import pipelines as view

    view.print_schema()


What = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME",
        help="A definition's file, or a stored pipeline, as NAME or NAME@VERSION.",
    ),
]
Execution = Annotated[str, typer.Argument(metavar="EXECUTION", help="An execution's id.")]


@pipeline.command(
    epilog=examples(
        'etl pipeline run orders.yaml --input \'{"since": "2026-01-01"}\' --wait',
        "etl pipeline run orders@3",
        "etl pipeline run --from orders-20261128T040000Z-1f2e3d4c --node rows --latest",
        "etl pipeline run orders.yaml --dry-run --pin results.json",
    )
)
def run(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|NAME",
            help="A definition's file, or a stored pipeline, as NAME or NAME@VERSION.",
        ),
    ] = None,
    given: Annotated[
        str,
        typer.Option(
            "--input", metavar="JSON", help="What expressions read as trigger; @FILE reads a file."
        ),
    ] = "null",
    resumed: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="EXECUTION",
            help="Go on from an execution that has ended, with the results it recorded.",
            show_default="begin anew",
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="With --from: the node from which on all runs anew.",
            show_default="what did not complete",
        ),
    ] = None,
    latest: Annotated[
        bool,
        typer.Option("--latest", help="With --from: by the pipeline's latest version."),
    ] = False,
    failed_items: Annotated[
        bool,
        typer.Option(
            "--failed-items",
            help="With --from: maps run again, but without the items that completed.",
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end, and exit 1 if it fails.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            help="In this command alone: show what would be sent and written, and do neither.",
        ),
    ] = False,
    pins: Annotated[
        list[str] | None,
        typer.Option(
            "--pin",
            metavar="FILE|EXECUTION",
            help="With --dry-run: results of nodes, from a file or of an execution.",
            show_default="none",
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="With --dry-run: how much is shown of a list."),
    ] = 5,
    as_json: AsJson = False,
) -> int:
    """Start an execution of a pipeline; it runs on Temporal, or as a dry run in the command."""
    if dry_run:
        from temporaletl.control.cli.views import dry_runs

        unmeant = wait or latest or failed_items or node is not None or resumed is not None
        return dry_runs.run(what, given, pins or [], limit=limit, unmeant=unmeant, as_json=as_json)
    from temporaletl.control.cli.views import executions as view

    if pins:
        raise ConfigurationError("--pin goes with --dry-run")
    request = view.read_request(
        what, given, resumed, node, latest=latest, failed_items=failed_items
    )
    return view.start(request, wait=wait, as_json=as_json)


@pipeline.command(epilog=examples("etl pipeline status orders-20261128T040000Z-1f2e3d4c"))
def status(execution: Execution, as_json: AsJson = False) -> int:
    """Show an execution and each of its nodes."""
    from temporaletl.control.cli.views import executions as view

    return view.print_execution(execution, as_json=as_json)


@pipeline.command(epilog=examples("etl pipeline executions orders --limit 10"))
def executions(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only of this pipeline.", show_default="all of them"),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the latest executions."""
    from temporaletl.control.cli.views import executions as view

    view.print_executions(name, limit, as_json=as_json)


@pipeline.command(epilog=examples("etl pipeline result orders-20261128T040000Z-1f2e3d4c fetch"))
def result(
    execution: Execution,
    node: Annotated[str, typer.Argument(metavar="NODE", help="One of its nodes.")],
) -> None:
    """Print what a node of an execution gave, as JSON."""
    from temporaletl.control.cli.views import executions as view

    view.print_result(execution, node)


@pipeline.command(epilog=examples("etl pipeline pause orders-20261128T040000Z-1f2e3d4c"))
def pause(execution: Execution) -> None:
    """Let an execution start no more nodes; those that run come to their end."""
    from temporaletl.control.cli.views import executions as view

    view.control(execution, "pause")


@pipeline.command(epilog=examples("etl pipeline resume orders-20261128T040000Z-1f2e3d4c"))
def resume(execution: Execution) -> None:
    """Let a paused execution go on."""
    from temporaletl.control.cli.views import executions as view

    view.control(execution, "resume")


@pipeline.command(epilog=examples("etl pipeline cancel orders-20261128T040000Z-1f2e3d4c"))
def cancel(execution: Execution) -> None:
    """End an execution, and the nodes that run."""
    from temporaletl.control.cli.views import executions as view

    view.control(execution, "cancel")


@pipeline.command(
    epilog=examples("etl pipeline decide orders-20261128T040000Z-1f2e3d4c approve approved")
)
def decide(
    execution: Execution,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node that waits.")],
    outcome: Annotated[
        Literal["approved", "rejected", "received"], typer.Argument(help="What is decided.")
    ],
    comment: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; kept with the decision.")
    ] = None,
) -> None:
    """Decide what a node waits for; the first decision stands."""
    from temporaletl.control.cli.views import executions as view

    view.print_decision(execution, node, outcome, comment)


@pipeline.command(epilog=examples("etl pipeline store orders.yaml"))
def store(file: File, as_json: AsJson = False) -> int:
    """Store a definition under its name, as the latest version."""
    from temporaletl.control.cli.views import stored_pipelines as view

    return view.store(file, as_json=as_json)


@pipeline.command("list", epilog=examples("etl pipeline list"))
def list_(as_json: AsJson = False) -> None:
    """List the stored pipelines."""
    from temporaletl.control.cli.views import stored_pipelines as view

    view.print_pipelines(as_json=as_json)


@pipeline.command(epilog=examples("etl pipeline versions orders"))
def versions(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A stored pipeline.")],
    as_json: AsJson = False,
) -> None:
    """List the versions of a stored pipeline."""
    from temporaletl.control.cli.views import stored_pipelines as view

    view.print_versions(name, as_json=as_json)


@pipeline.command(
    epilog=examples("etl pipeline diff orders orders.yaml", "etl pipeline diff orders@1 orders@2")
)
def diff(before: What, after: What) -> int:
    """Print what differs between two definitions, their pictures aside; exit 1 if anything does."""
    from temporaletl.control.cli.views import stored_pipelines as view

    return view.print_difference(before, after)


@pipeline.command(epilog=examples("etl pipeline delete orders"))
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A stored pipeline.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", metavar="", help="Also where it has a schedule, whose executions then fail."
        ),
    ] = False,
) -> None:
    """Delete a stored pipeline with its versions; its executions stay."""
    from temporaletl.control.cli.views import stored_pipelines as view

    view.delete(name, force=force)


pipeline.command(
    epilog=examples(
        "etl pipeline schedule orders 1-5 3  # weekdays at 03:00 UTC",
        "etl pipeline schedule orders@3 often --every 15m --jitter 1m",
        "etl pipeline schedule orders nightly --cron '0 1 * * *' --input '{\"since\": \"P1D\"}'",
    )
)(pipeline_schedules.schedule)
for function, name in (
    (pipeline_schedules.schedule_pause, "schedule-pause"),
    (pipeline_schedules.schedule_resume, "schedule-resume"),
    (pipeline_schedules.schedule_delete, "schedule-delete"),
):
    pipeline.command(name, epilog=examples(f"etl pipeline {name} orders nightly"))(function)
pipeline.command(
    "schedule-backfill",
    epilog=examples("etl pipeline schedule-backfill orders --from 2026-11-01 --to 2026-11-08"),
)(pipeline_schedules.schedule_backfill)
