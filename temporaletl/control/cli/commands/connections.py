"""`etl connections`: which sites, tenants and namespaces there are beside the environment's."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, examples

connections = typer.Typer(no_args_is_help=True)


@connections.command("list", epilog=examples("etl connections list", "etl connections list --json"))
def list_connections(as_json: AsJson = False) -> int:
    """List the connections of the file that ETL_CONNECTIONS names; no secret is read."""
    from temporaletl.control.cli.views import connections as view

    return view.print_connections(as_json=as_json)


@connections.command(
    epilog=examples(
        "etl connections check  # all of them", "etl connections check acme  # one of them"
    )
)
def check(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only this one.", show_default="all of them"),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Try whether settings and secrets are there, and who each source says we are."""
    from temporaletl.control.cli.views import connections as view

    return view.print_checks(name, as_json=as_json)
