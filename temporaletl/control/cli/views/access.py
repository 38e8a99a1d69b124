"""`etl token`, `etl audit`: output of tokens, and of the audit."""

from datetime import UTC, datetime, timedelta
from typing import Any

from temporaletl.control.cli.output import (
    add_row,
    make_table,
    note,
    print_json,
    print_secret,
    print_table,
    say,
    show_time,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations.audit import list_audit
from temporaletl.control.operations.tokens import create_token, list_tokens, revoke_token
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.tokens import Scope, Token


def create(name: str, scope: Scope, expires_in_days: float | None, *, as_json: bool) -> None:
    """Create a token and print its text: alone on standard output, for a program to read."""
    made = call(create_token, name, scope, expires_in=_span(expires_in_days))
    token = made.token
    if as_json:
        print_json(token.model_dump(mode="json"), secrets={"token": made.text})
        return
    until = f"until {show_time(token.expires_at)}" if token.expires_at else "for ever"
    note(f"created token {name} ({scope}), valid {until}; it is shown this once:", style="dim")
    print_secret(made.text)


def _span(days: float | None) -> timedelta | None:
    if days is None:
        return None
    try:
        return timedelta(days=days)
    except (OverflowError, ValueError):
        raise ConfigurationError(f"--expires-in-days {days}: no number of days") from None


def print_tokens(*, as_json: bool) -> None:
    """List all tokens."""
    tokens = call(list_tokens)
    if as_json:
        print_json([token.model_dump(mode="json") for token in tokens])
        return
    if not tokens:
        say("no tokens: `etl token create NAME` makes one")
        return
    table = make_table(
        *("name", "scope", "state", "created", "by", "expires", "last used"),
        below=("by", "created", "last used"),
    )
    for token in tokens:
        expires, used = token.expires_at or "never", token.last_used_at or "never"
        add_row(
            table,
            *(token.name, token.scope, _state(token)),
            *(token.created_at, token.created_by, expires, used),
        )
    print_table(table)


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    expired = token.expires_at is not None and token.expires_at <= datetime.now(UTC)
    return "expired" if expired else "valid"


def revoke(name: str) -> None:
    """Revoke a token."""
    call(revoke_token, name)
    say(f"revoked token {name}: requests with it are refused from now on")


def print_audit(limit: int, *, as_json: bool) -> None:
    """List the latest entries of the audit."""
    page = call(list_audit, limit=limit)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in page.entries])
        return
    if not page.entries:
        say("nothing has been done yet that is kept in the audit")
        return
    table = make_table(
        *("at", "by", "action", "target", "outcome", "reason", "details"),
        below=("details", "reason", "target", "by"),
    )
    for entry in page.entries:
        details = ", ".join(
            f"{name}={_shown(value)}" for name, value in entry.details.items() if value is not None
        )
        add_row(
            table,
            *(entry.at, entry.actor, entry.action, entry.target, entry.outcome, entry.reason or ""),
            details,
        )
    print_table(table)
    if page.next is not None:
        note("and older ones (--limit)", style="dim")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
