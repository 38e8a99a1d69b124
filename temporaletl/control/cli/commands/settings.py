"""`etl init`, `etl settings`."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, Source, read_pairs
from temporaletl.control.cli.commands.connections import Env, SecretFile, Set, read_places
from temporaletl.errors import ConfigurationError


def init(
    source: Source,
    connection: Annotated[
        str,
        typer.Option(
            "--connection",
            metavar="NAME",
            help="Make a connection of that name, in the connections file.",
        ),
    ] = "default",
    given: Set = None,
    env: Env = None,
    file: SecretFile = None,
    no_input: Annotated[
        bool,
        typer.Option(
            "--no-input",
            help="Ask nothing: take what --set and the environment say, as where no terminal is.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Change values without asking.")] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Write without trying the source.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Ask for a source's settings, try them, and write them to .env or the connections file."""
    values, places = read_pairs("--set", given), read_places(env, file)
    if places and connection == "default":
        raise ConfigurationError("--env and --file are of connections: add --connection NAME")

    from temporaletl.control.cli.views import init as view

    options = view.Options(ask=not no_input, yes=yes, check=not no_check, as_json=as_json)
    return view.init(source, connection, values, places, options)


def settings(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="Only those of this source.", show_default="all"),
    ] = None,
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection",
            metavar="NAME",
            help="Only those of this connection.",
            show_default="all of them",
        ),
    ] = None,
    set_only: Annotated[
        bool, typer.Option("--set-only", help="Without those at their defaults.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List all settings with their values, and where each value is from; no secret is shown."""
    from temporaletl.control.cli.views import settings as view

    return view.print_settings(source, connection, set_only=set_only, as_json=as_json)
