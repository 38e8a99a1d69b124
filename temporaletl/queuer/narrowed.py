"""Batches that read less than watermarks stand for: a narrower account, or a run's filters."""

from temporaletl import names
from temporaletl.accounts import account_views, read_view
from temporaletl.errors import ConfigurationError
from temporaletl.messages import BatchMetadata
from temporaletl.warehouse.accounts import known_view, replace_view, widen_view
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import hold_watermarks, keep_missing
from temporaletl.warehouse.state import streams_of_other_scope


def hold_narrowed(warehouse: Warehouse, metadata: BatchMetadata) -> None:
    """Hold the watermarks of a batch that is shown less than before, or has filters of its own.

    Blocks; asks the source for its account view. Safe to repeat.

    Raises:
        ConfigurationError: the account is of another site.
    """
    reasons = [_note_view(warehouse, metadata), _narrower_scope(warehouse, metadata)]
    if given := [reason for reason in reasons if reason is not None]:
        hold_watermarks(warehouse, metadata.batch_id, "; ".join(given))


def _note_view(warehouse: Warehouse, metadata: BatchMetadata) -> str | None:
    """Record the account view that rows are loaded under; return why it holds the watermarks.

    Where that is less than when rows were loaded, what the account is not shown may have changed,
    and must be read when it is shown again; nothing that it is not shown is taken for deleted.

    Raises:
        ConfigurationError: it is the view of another site.
    """
    if metadata.source not in account_views:
        return None
    view = read_view(metadata.source)
    if view is None:
        return None
    if metadata.accept_view:
        replace_view(warehouse, metadata.source, metadata.connection, view)
        return None
    known = known_view(warehouse, metadata.source, metadata.connection)
    if known is not None and known.is_of_other_site(view):
        raise ConfigurationError(
            f"{_label(metadata)}: rows were loaded from the site {known.site}, and the one that "
            f"answers now is {view.site}: nothing is loaded, as rows of two sites would be taken "
            "for each other; put the settings back, or give this site a connection of its own "
            "(ETL_CONNECTIONS); if it is the same site after all, run once with --accept-view"
        )
    lacking = None if known is None else known.lacks(view)
    if lacking is not None:
        keep_missing(warehouse, metadata.batch_id)
    widen_view(warehouse, metadata.source, metadata.connection, view)
    return lacking and (
        f"{_label(metadata)}: {lacking}. What changed of the rest is not loaded, and nothing is "
        "deleted, so the watermark stays where it is: give the account back what it had; or, if it "
        "sees all that there is, run once with --accept-view"
    )


def _label(metadata: BatchMetadata) -> str:
    return names.label(metadata.source, metadata.connection)


def _narrower_scope(warehouse: Warehouse, metadata: BatchMetadata) -> str | None:
    """Why a run with filters of its own moves no watermark; None where it may."""
    if not metadata.is_filtered:
        return None
    streams = streams_of_other_scope(warehouse, metadata)
    if not streams:
        return None
    return (
        f"{_label(metadata)}: this run's parameters leave out what the watermark of "
        f"{', '.join(streams)} stands for, so that it stays where it is"
    )
