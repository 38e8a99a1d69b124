"""The request for a run in the engine, made of the arguments of `run_batch`."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from temporaletl import names
from temporaletl.errors import ConfigurationError
from temporaletl.messages import MetadataRequest, QueuerInput
from temporaletl.validation import faults_of

#: A run before it would have windows that end before Python's first year.
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def make_request(
    source: str, *, streams: Any, params: Any, scheduled: Any, **others: Any
) -> MetadataRequest:
    """Make the request, with a run id of its own.

    Raises:
        ConfigurationError: an argument is wrong; names it.
    """
    try:
        request = QueuerInput(
            source=source,
            streams=_stream_names(streams),
            params=_plain(params),
            **others,
        )
        nominal = _scheduled(scheduled)
    except ValidationError as error:
        faults = "; ".join(map(str, faults_of(error)))
    except ValueError as error:
        faults = str(error)
    else:
        return MetadataRequest(
            input=request,
            nominal=nominal,
            workflow_id=names.engine_run_id(source, request.mode, nominal, request.connection),
            run_id=uuid.uuid4().hex,
        )
    raise ConfigurationError(f"no batch of {source!r}: {faults}")


def _plain(params: Any) -> Any:
    if params is None:
        return {}
    return dict(params) if isinstance(params, Mapping) else params


def _stream_names(streams: Any) -> tuple[Any, ...]:
    if isinstance(streams, (list, tuple, set, frozenset)):
        return tuple(streams)
    # A text is a sequence, too: of letters.
    raise ValueError(f"streams: must be a list or tuple of names, not {type(streams).__name__}")


def _scheduled(timestamp: Any) -> datetime:
    if timestamp is None:
        return datetime.now(UTC)
    if not isinstance(timestamp, datetime):
        raise ValueError(f"scheduled: must be a datetime, not {type(timestamp).__name__}")  # noqa: TRY004 - as every fault of an argument
    if timestamp.tzinfo is None:
        raise ValueError(f"scheduled: {timestamp} has no time zone")
    if timestamp < _EARLIEST:
        raise ValueError(f"scheduled: {timestamp} lies before 1970")
    try:
        return timestamp.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"scheduled: {timestamp} lies behind the last year in UTC") from None
