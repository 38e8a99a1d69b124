"""Audit: listing, authors, and rows about effects that the warehouse's transactions do not hold."""

import asyncio
import getpass
import socket
from collections.abc import Mapping

from pydantic import JsonValue

from temporaletl.control.operations.platform import Platform
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.audit import (
    AuditPage,
    AuditPosition,
    Author,
    Outcome,
    read_audit,
    record,
)


def local_author(reason: str | None = None) -> Author:
    """The user whose process this is, as `cli:alice@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user of a container may have no name
        user = "unknown"
    return Author(name=f"cli:{user}@{socket.gethostname()}", reason=reason)


async def list_audit(
    platform: Platform, *, limit: int, before: AuditPosition | None = None
) -> AuditPage:
    """A page of the audit, the latest entries first; see `read_audit`.

    Raises:
        ConfigurationError: the limit is not positive.
        ETLError: as `Platform.current_warehouse`.
    """
    if limit < 1:
        raise ConfigurationError(f"limit {limit}: at least one entry must be wanted")
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(read_audit, warehouse, limit=limit, before=before)


async def record_outcome(
    platform: Platform,
    author: Author,
    action: str,
    target: str,
    outcome: Outcome,
    *,
    details: Mapping[str, JsonValue] | None = None,
) -> None:
    """Write an audit row by itself: about what was refused, or done elsewhere, as in Temporal.

    Raises:
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()

    def write() -> None:
        with warehouse.connection() as connection:
            record(connection, author, action, target, outcome=outcome, details=details)

    await asyncio.to_thread(write)
