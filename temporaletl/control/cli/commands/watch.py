"""`etl freshness`, `etl health`, `etl notify`: is anything wrong, and who is told."""

from typing import Annotated, Literal

import typer

from temporaletl.control.cli.commands.arguments import AsJson, examples

notify = typer.Typer(no_args_is_help=True)


def freshness(as_json: AsJson = False) -> int:
    """Say whether each stream is loaded up to as late as it must be; 1 where one is late."""
    from temporaletl.control.cli.views import watch as view

    return view.print_freshness(as_json=as_json)


def health(as_json: AsJson = False) -> int:
    """Look at every part of the platform, and say what is wrong; 1 where a part is down."""
    from temporaletl.control.cli.views import watch as view

    return view.print_health(as_json=as_json)


@notify.command("list", epilog=examples("etl notify list", "etl notify list --state failed --json"))
def list_notifications(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="How many, latest first.")
    ] = 20,
    state: Annotated[
        Literal["pending", "sending", "sent", "failed"] | None,
        typer.Option("--state", metavar="STATE", help="Only those of this state."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what was sent to which destination, and what could not be sent, and why."""
    from temporaletl.control.cli.views import watch as view

    view.print_notifications(limit, state, as_json=as_json)


@notify.command(
    "test",
    epilog=examples(
        "etl notify test", "etl notify test --destination NOTIFY_URLS.2  # one of them"
    ),
)
def send_test(
    destination: Annotated[
        str | None,
        typer.Option(
            "--destination",
            metavar="NAME",
            help="Only this one, by name or by its number among all.",
            show_default="all of them",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Send a test to the destinations that the settings here name; 1 where one does not take it."""
    from temporaletl.control.cli.views import watch as view

    return view.send_test(destination, as_json=as_json)
