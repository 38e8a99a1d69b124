"""The `etl` command."""

from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from temporaletl.command import be_command
from temporaletl.control.cli.commands import (
    access,
    authoring,
    connections,
    partitions,
    pipelines,
    runs,
    schedules,
    settings,
    sources,
    stack,
    tables,
    upkeep,
    warehouse,
    watch,
)
from temporaletl.control.cli.commands.arguments import examples

_RUNNING = "Load and watch"
_LOOKING = "Look first"
_REGULARLY = "Load regularly"
_PIPELINES = "Pipelines"
_KEEPING = "Look after what is loaded"
_ACCESS = "Who may use the API, and who did what"
_MACHINE = "This machine"
_AUTHORS = "Write a source"

app = typer.Typer(
    name="etl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "etl up  # everything on this machine, until Ctrl-C",
        "etl check jira  # are settings, credentials and servers good?",
        "etl run jira --wait  # load what is new, and watch",
        "etl status  # what ran, what it loaded, what failed and why",
    ),
)


def _version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        # It takes as long to import as all the rest.
        from importlib.metadata import version as installed_version  # noqa: PLC0415

        typer.echo(installed_version("temporaletl"))
        raise typer.Exit


@app.callback()
def etl(
    version: Annotated[  # noqa: FBT002 - a flag
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Move what happens in work systems into a PostgreSQL warehouse."""


app.command(
    rich_help_panel=_MACHINE,
    epilog=examples(
        "etl up",
        "etl up --workers auto --data ./etl-data",
        "JIRA_URL=https://jira.example.com etl up  # settings of sources come from here",
    ),
)(stack.up)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples("etl down", "etl down --data ./etl-data"),
)(stack.down)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples(
        "etl serve  # the HTTP API, on this machine alone",
        "etl serve --host 0.0.0.0 --port 8080  # for others, once `etl token create` made a token",
    ),
)(stack.serve)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples(
        "etl worker  # jobs of the servers that the settings name",
        "etl worker --processes auto  # one process for each core",
    ),
)(stack.worker)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples(
        "etl backup  # to a file where you are, while `etl up` runs or not",
        "etl backup /mnt/backups --json | jq .file",
    ),
)(upkeep.backup)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples(
        "etl restore temporaletl-20250131T060000Z.backup.zip  # into an empty data folder",
        "etl restore temporaletl-20250131T060000Z.backup.zip --replace  # in the place of the data",
    ),
)(upkeep.restore)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples(
        "etl upgrade  # when `etl up` says that the data is of another PostgreSQL",
        "etl upgrade --old-programs /usr/lib/postgresql/17/bin",
    ),
)(upkeep.upgrade)
app.command(
    rich_help_panel=_MACHINE,
    epilog=examples("etl uninstall", "etl uninstall --keep-data --yes"),
)(upkeep.uninstall)
app.command(
    rich_help_panel=_RUNNING,
    epilog=examples(
        "etl run jira --wait  # what is new since the last run",
        "etl run jira --connection acme  # another site, by its name in ETL_CONNECTIONS",
        "etl run jira --mode full --wait --json  # everything; one JSON document at the end",
        "etl run jira --from 2025-01-01 --to 2025-02-01  # January again",
        "etl run jira --engine local --wait  # with PostgreSQL alone, without Temporal",
        "etl run temporal --stream workflows --param 'namespaces=[\"default\"]'",
    ),
)(runs.run)
app.command(
    rich_help_panel=_RUNNING,
    epilog=examples(
        "etl status  # the latest runs",
        "etl status etl-jira-full-20250131T060000.000000Z  # one of them, in full",
        "etl status --json | jq '.[] | select(.state == \"failed\")'",
    ),
)(runs.status)
app.command(
    rich_help_panel=_RUNNING,
    epilog=examples(
        "etl follow etl-jira-full-20250131T060000.000000Z  # its progress, then its result",
        "etl follow etl-jira-full-20250131T060000.000000Z --json | jq .rows",
    ),
)(runs.follow)
app.command(
    rich_help_panel=_RUNNING,
    epilog=examples(
        "etl logs etl-jira-full-20250131T060000.000000Z --limit 20",
        "etl logs etl-jira-full-20250131T060000.000000Z --json | jq '.lines[].event'",
    ),
)(runs.logs)
app.command(
    rich_help_panel=_RUNNING,
    epilog=examples("etl retry etl-jira-full-20250131T060000.000000Z --wait"),
)(runs.retry)
app.command(
    rich_help_panel=_RUNNING,
    epilog=examples("etl freshness", "etl freshness --json | jq '.entries[] | select(.late)'"),
)(watch.freshness)
app.command(
    rich_help_panel=_RUNNING, epilog=examples("etl health", "etl health --json | jq .verdict")
)(watch.health)
app.add_typer(
    watch.notify,
    name="notify",
    rich_help_panel=_RUNNING,
    help="Who is notified of ends and lateness, and whether that works.",
)
_command: Callable[..., None]
for _command, _example in (
    (runs.pause, "etl pause etl-jira-full-20250131T060000.000000Z"),
    (runs.resume, "etl resume etl-jira-full-20250131T060000.000000Z"),
    (runs.cancel, "etl cancel job/jira-issues-full-0123456789abcdef  # one job of a run"),
):
    app.command(rich_help_panel=_RUNNING, epilog=examples(_example))(_command)
app.command(rich_help_panel=_LOOKING, epilog=examples("etl sources"))(sources.sources)
app.command(
    rich_help_panel=_LOOKING,
    epilog=examples("etl check jira", "etl check jira --json", "etl check jira --connection acme"),
)(sources.check)
app.command(
    rich_help_panel=_LOOKING,
    epilog=examples(
        "etl init jira  # asks, tries, and writes .env",
        "etl init jira --connection acme  # another site, in the connections file",
        "JIRA_API_TOKEN=… etl init jira --no-input --set JIRA_URL=https://jira.example.com "
        "--set JIRA_EMAIL=me@example.com",
    ),
)(settings.init)
app.command(
    rich_help_panel=_LOOKING,
    epilog=examples(
        "etl settings --set-only  # what is set, and where",
        "etl settings jira --json | jq '.settings[] | select(.origin == \".env\").name'",
    ),
)(settings.settings)
app.add_typer(
    connections.connections,
    name="connections",
    rich_help_panel=_LOOKING,
    help="Several sites, tenants or namespaces of one source.",
)
app.command(
    rich_help_panel=_LOOKING,
    epilog=examples(
        "etl preview jira --limit 5",
        "etl preview jira --from 2025-01-01 --to 2025-01-02 --json | jq '.[].event_type'",
    ),
)(sources.preview)
app.command(
    rich_help_panel=_REGULARLY,
    epilog=examples(
        "etl schedule jira 1 3  # Mondays at 03:00 UTC",
        "etl schedule jira 1-5 6,18 --timezone Europe/London  # weekdays, twice",
        "etl schedule jira weekly 0 2 --mode full  # and on Sundays everything, beside the others",
        "etl schedule jira often --cron '*/15 8-18 * * 1-5' --jitter 2m",
        "etl schedule jira hourly --every 1h --param jql='project = ABC'",
    ),
)(schedules.schedule)
app.command(rich_help_panel=_REGULARLY, epilog=examples("etl schedules"))(schedules.schedules)
for _command, _name in (
    (schedules.schedule_pause, "schedule-pause"),
    (schedules.schedule_resume, "schedule-resume"),
    (schedules.schedule_delete, "schedule-delete"),
):
    app.command(_name, rich_help_panel=_REGULARLY, epilog=examples(f"etl {_name} jira"))(_command)
app.command(
    "schedule-backfill",
    rich_help_panel=_REGULARLY,
    epilog=examples("etl schedule-backfill jira --from 2025-01-01 --to 2025-02-01"),
)(schedules.schedule_backfill)
app.command(
    rich_help_panel=_KEEPING,
    # What is psql's is not looked into.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples(
        "etl psql",
        "etl psql -c 'SELECT event_type, count(*) FROM workplace.events GROUP BY 1'",
        "etl psql --url  # for DBeaver, Metabase and others on this machine",
    ),
)(warehouse.psql)
app.add_typer(
    pipelines.pipeline,
    name="pipeline",
    rich_help_panel=_PIPELINES,
    help="Node graphs of your own: check, store, run and watch them.",
)
app.add_typer(
    warehouse.state,
    name="state",
    rich_help_panel=_KEEPING,
    help="Show or move the watermarks, up to which a source is loaded.",
)
app.add_typer(
    warehouse.rejects,
    name="rejects",
    rich_help_panel=_KEEPING,
    help="The records that could not become rows.",
)
app.add_typer(
    warehouse.identities,
    name="identities",
    rich_help_panel=_KEEPING,
    help="Which employees the people of a source are.",
)
app.command(
    rich_help_panel=_KEEPING,
    epilog=examples(
        "etl schema jira", "etl schema --diff  # what the next run and `etl migrate` would change"
    ),
)(tables.schema)
app.command(rich_help_panel=_KEEPING, epilog=examples("etl migrate", "etl migrate --json"))(
    tables.migrate
)
app.command(
    rich_help_panel=_KEEPING,
    epilog=examples(
        "etl verify jira  # every row, by stream and month",
        "etl verify jira --from 2025-01-01 --to 2025-02-01 --json | jq .differences",
    ),
)(tables.verify)
app.add_typer(
    tables.ledger,
    name="ledger",
    rich_help_panel=_KEEPING,
    help="How large the record of runs is, and what of it is due to go.",
)
app.add_typer(
    partitions.partitions,
    name="partitions",
    rich_help_panel=_KEEPING,
    help="Events of a source by month, and how long they are kept.",
)
app.add_typer(
    access.token, name="token", rich_help_panel=_ACCESS, help="The tokens that the API takes."
)
app.add_typer(
    access.key,
    name="key",
    rich_help_panel=_ACCESS,
    help="The keys that encrypt payloads and pipelines' results.",
)
app.add_typer(
    access.audit, name="audit", rich_help_panel=_ACCESS, help="Who did what, when and why."
)
app.command(
    "new-source",
    rich_help_panel=_AUTHORS,
    epilog=examples(
        "etl new-source demo  # in a checkout: a source beside the others",
        "etl new-source shop --wheel --folder ../shop-source  # a package of its own",
    ),
)(authoring.new_source)


def main() -> NoReturn:
    """Run the command line; see `temporaletl.command.run_command` for the exit status."""
    be_command(app, "etl")


if __name__ == "__main__":
    main()
