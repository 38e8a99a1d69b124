"""`etl token`, `etl key` and `etl audit`: who may use the API, what is encrypted, who did what."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, TokenScope, examples

token = typer.Typer(no_args_is_help=True)
audit = typer.Typer(no_args_is_help=True)
key = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name (`etl token list`).")]


@token.command(
    epilog=examples(
        "etl token create grafana",
        "etl token create ci --scope operate --expires-in-days 90",
        "ETL_API_TOKEN=$(etl token create laptop --scope operate)",
    )
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what it is for.")],
    scope: Annotated[
        TokenScope,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read: look at everything; decrypt: and at payloads in Temporal; operate: change "
            "it, too.",
        ),
    ] = "read",
    expires_in_days: Annotated[
        float | None,
        typer.Option(
            "--expires-in-days", metavar="N", help="When it expires.", show_default="never"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a token for the API, and print it: this once, and nowhere else."""
    from temporaletl.control.cli.views import access as view

    view.create(name, scope, expires_in_days, as_json=as_json)


@token.command("list", epilog=examples("etl token list", "etl token list --json"))
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens, expired and revoked ones too; no secret is kept that could be shown."""
    from temporaletl.control.cli.views import access as view

    view.print_tokens(as_json=as_json)


@token.command(epilog=examples("etl token revoke ci"))
def revoke(name: Name) -> None:
    """Revoke a token: the next request with it is refused, and its browsers are logged out."""
    from temporaletl.control.cli.views import access as view

    view.revoke(name)


@key.command(
    epilog=examples(
        "etl key generate k1 > payload-keys", "etl key generate 2026-11 >> payload-keys"
    )
)
def generate(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id of the key, which no other one ever had.")
    ],
) -> None:
    """Make a payload key, and print it as ETL_PAYLOAD_KEYS has it; it is kept nowhere."""
    from temporaletl.control.cli.views import payload_keys as view

    view.generate(key_id)


@key.command("list", epilog=examples("etl key list", "etl key list --json"))
def list_keys(as_json: AsJson = False) -> None:
    """List the payload keys that are in use, by id, and whether this process has them."""
    from temporaletl.control.cli.views import payload_keys as view

    view.print_keys(as_json=as_json)


@key.command(epilog=examples("etl key retire k1", "etl key retire k1 --force  # it is lost"))
def retire(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id (`etl key list`).")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", metavar="", help="Give up whatever is encrypted with it, runs too."
        ),
    ] = False,
) -> None:
    """Encrypt anew what a payload key encrypts, so that services may do without it."""
    from temporaletl.control.cli.views import payload_keys as view

    view.retire(key_id, force=force)


@audit.command("list", epilog=examples("etl audit list", "etl audit list --limit 100 --json"))
def list_audit(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="How many, latest first.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List who did what, and why: tokens, connections and watermarks that were changed."""
    from temporaletl.control.cli.views import access as view

    view.print_audit(limit, as_json=as_json)
