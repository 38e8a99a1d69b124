"""Error codes: how the HTTP API names the classes of errors, and with which status."""

from http import HTTPStatus

from temporaletl.errors import (
    ConfigurationError,
    ConflictError,
    CredentialsError,
    ETLError,
    NotFoundError,
    RateLimitedError,
    RetryableError,
    SourceProtocolError,
    SourceUnavailableError,
    UnknownSourceError,
)
from temporaletl.temporal.payload_keys import MissingPayloadKeyError, UndecryptablePayloadError
from temporaletl.warehouse.idempotency import RequestRunningError, ReusedKeyError
from temporaletl.warehouse.source_connections import VersionConflictError

#: The first class that an error is of decides: status, code.
ERROR_CODES: tuple[tuple[type[ETLError], HTTPStatus, str], ...] = (
    (ReusedKeyError, HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused"),
    (RequestRunningError, HTTPStatus.CONFLICT, "request-running"),
    (MissingPayloadKeyError, HTTPStatus.UNPROCESSABLE_ENTITY, "missing-payload-key"),
    (UndecryptablePayloadError, HTTPStatus.UNPROCESSABLE_ENTITY, "undecryptable-payload"),
    (VersionConflictError, HTTPStatus.PRECONDITION_FAILED, "version-conflict"),
    (NotFoundError, HTTPStatus.NOT_FOUND, "not-found"),
    (UnknownSourceError, HTTPStatus.NOT_FOUND, "unknown-source"),
    (ConflictError, HTTPStatus.CONFLICT, "conflict"),
    (ConfigurationError, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid"),
    (RateLimitedError, HTTPStatus.SERVICE_UNAVAILABLE, "source-rate-limited"),
    (SourceUnavailableError, HTTPStatus.SERVICE_UNAVAILABLE, "source-unavailable"),
    (RetryableError, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    (CredentialsError, HTTPStatus.BAD_GATEWAY, "refused"),
    (SourceProtocolError, HTTPStatus.BAD_GATEWAY, "source-protocol"),
)
