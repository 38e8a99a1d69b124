"""Stored batches: metadata as the ledger has it, also what another version of the platform wrote.

A batch whose metadata cannot be read any more is not run on, but it is listed, and it is closed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from temporaletl.errors import PermanentError
from temporaletl.messages import BatchMetadata
from temporaletl.validation import faults_of

#: The columns of etl_batches that `stored_batch` takes.
COLUMNS = "batch_id, source, mode, connection, created_at, metadata"


class UnreadableRunError(PermanentError):
    """What the ledger has of a run cannot be read by this version of the platform."""


class StoredBatch(NamedTuple):
    """A batch's metadata; with a `fault`, it is only what it takes to close the batch."""

    metadata: BatchMetadata
    fault: UnreadableRunError | None


def stored_batch(row: Mapping[str, Any]) -> StoredBatch:
    """The batch of a row of `COLUMNS`. One that cannot be read has no windows to move."""
    try:
        return StoredBatch(BatchMetadata.model_validate(row["metadata"]), None)
    except ValidationError as error:
        known = {name: row[name] for name in ("batch_id", "source", "mode", "connection")}
        return StoredBatch(
            BatchMetadata.model_construct(
                **known, windows={}, worker_queue="", started=row["created_at"]
            ),
            unreadable(f"batch {row['batch_id']}", error),
        )


def unreadable(what: str, error: ValidationError) -> UnreadableRunError:
    """The error of a run that was stored by another version of the platform."""
    faults = "; ".join(map(str, faults_of(error)))
    return UnreadableRunError(
        f"{what} cannot be read by this version of the platform ({faults}): start another run"
    )
