"""Clients of Temporal: connection, and its errors, which hold no secret."""

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from time import monotonic
from typing import Any

from temporalio.api.enums.v1 import WorkflowExecutionStatus as ServerStatus
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, Interceptor, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    TemporalDisabledError,
    TemporalUnavailableError,
)
from temporaletl.settings.platform import TemporalSettings
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.client_credentials import keep_renewed
from temporaletl.temporal.endpoint import CONNECT_TIMEOUT, Endpoint, endpoint
from temporaletl.temporal.failures import EncodedFailures, RedactedFailures
from temporaletl.temporal.payload_codec import EncryptingCodec
from temporaletl.temporal.payload_keys import PayloadKeys, payload_keys

log = get_logger(__name__)

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(seconds=30)
#: A server that has just been set up answers before its namespace is registered.
NAMESPACE_PATIENCE = timedelta(minutes=2)

_REFUSED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)


def _paused_as_running(_statuses: type, value: object) -> WorkflowExecutionStatus | None:
    """Take a newer server's PAUSED for RUNNING: the workflow is open.

    The SDK does not know it, and refuses a whole page of a list for one such workflow.
    """
    paused = value == ServerStatus.WORKFLOW_EXECUTION_STATUS_PAUSED
    return WorkflowExecutionStatus.RUNNING if paused else None


WorkflowExecutionStatus._missing_ = classmethod(_paused_as_running)  # type: ignore[assignment]


class UnknownNamespaceError(ConfigurationError):
    """The server answers, but does not have the namespace."""


def data_converter(keys: PayloadKeys | None = None) -> DataConverter:
    """The data converter of messages; every client, worker and replayer uses this one.

    With payload keys, those of the settings unless given, payloads and failures are encrypted.

    Raises:
        ConfigurationError: as `payload_keys`.
    """
    keys = payload_keys() if keys is None else keys
    if keys.first is None:
        return replace(pydantic_data_converter, failure_converter_class=RedactedFailures)
    return replace(
        pydantic_data_converter,
        failure_converter_class=EncodedFailures,
        payload_codec=EncryptingCodec(keys),
    )


async def connect(
    settings: TemporalSettings,
    *,
    within: timedelta = CONNECT_TIMEOUT,
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
) -> Client:
    """Connect to the platform's Temporal, or fail `within` that time: for commands.

    Raises:
        TemporalDisabledError: there is none, by TEMPORAL_ENABLED.
        TemporalUnavailableError: nothing answers there.
        UnknownNamespaceError: the server lacks the namespace (a ConfigurationError).
        ConfigurationError: a variable, the address or a certificate is wrong.
        CredentialsError: the server refused the API key or certificate.
    """
    _check_enabled(settings)
    target = endpoint(settings)
    try:
        return await open_client(target, within=within, interceptors=interceptors, runtime=runtime)
    except TemporalUnavailableError as error:
        if settings.address or settings.host:
            raise
        # Nobody chose the address: the stack of this machine may be kept elsewhere.
        folder = os.environ.get("ETL_DATA_DIR")
        hint = (
            f"no `etl up` runs on {folder} (ETL_DATA_DIR)"
            if folder
            else "or name the folder of one that runs: ETL_DATA_DIR"
        )
        raise TemporalUnavailableError(f"{error}; {hint}") from None


async def connect_patiently(
    settings: TemporalSettings,
    *,
    within: timedelta = CONNECT_TIMEOUT,
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
    pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> Client:
    """Connect to the platform's Temporal, however long it takes to answer: for services.

    Every failed attempt is logged. What a person must change is raised at once, except for an
    unknown namespace: that is raised when it stays unknown for `NAMESPACE_PATIENCE`. `pause`
    waits the given seconds between two attempts.

    Raises:
        TemporalDisabledError, UnknownNamespaceError, ConfigurationError, CredentialsError: as
            `connect`.
    """
    _check_enabled(settings)
    target = endpoint(settings)
    delay = FIRST_DELAY
    answered: float | None = None
    while True:
        try:
            return await open_client(
                target, within=within, interceptors=interceptors, runtime=runtime
            )
        except TemporalUnavailableError as error:
            reason = str(error)
        except UnknownNamespaceError as error:
            answered = monotonic() if answered is None else answered
            if monotonic() - answered >= NAMESPACE_PATIENCE.total_seconds():
                raise
            reason = str(error)
        seconds = delay.total_seconds()
        log.warning("temporal_connection_failed", reason=reason, retry_in_seconds=seconds)
        await pause(seconds)
        delay = min(delay * 2, LONGEST_DELAY)


def _check_enabled(settings: TemporalSettings) -> None:
    if not settings.enabled:
        raise TemporalDisabledError(
            "Temporal is off here (TEMPORAL_ENABLED=false), and with it schedules and services: "
            "cron and `etl run SOURCE --engine local --wait` load a source regularly"
        )


def logging_to_python() -> LoggingConfig:
    """What the SDK's core has to say goes to Python's logs.

    Left to itself it writes to standard output, into the midst of what a command prints there.
    """
    core = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return LoggingConfig(filter=levels, forwarding=core)


@cache
def _logging_runtime() -> Runtime:
    """The process's runtime, which measures nothing: see `temporaletl.temporal.telemetry`."""
    return Runtime(telemetry=TelemetryConfig(logging=logging_to_python()))


async def open_client(
    target: Endpoint,
    *,
    within: timedelta = CONNECT_TIMEOUT,
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
    check_namespace: bool = True,
) -> Client:
    """Connect to any Temporal and see that its namespace is there; raises as `connect`."""
    converter = data_converter()
    try:
        async with asyncio.timeout(within.total_seconds()):
            client = await Client.connect(
                target.address,
                namespace=target.namespace,
                api_key=target.api_key,
                data_converter=converter,
                interceptors=interceptors,
                tls=target.tls,
                connect_timeout=within,
                rpc_metadata=target.rpc_metadata,
                runtime=runtime or _logging_runtime(),
            )
            if check_namespace:
                await client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=target.namespace),
                    metadata={"temporal-namespace": target.namespace},
                    timeout=within,
                )
    except TimeoutError:
        raise _unreachable(target, f"no answer within {within.total_seconds():g} s") from None
    except RPCError as error:
        raise _refused(target, error.status) from None
    except RuntimeError as error:
        raise _failed(target, str(error)) from None
    except ValueError as error:
        fault = (
            f"ADDRESS must be host:port, not {target.address!r}"
            if "URL" in str(error)
            else "API_KEY or GRPC_META_* holds what a header cannot carry"
        )
        raise ConfigurationError(f"{target.prefix}{fault}") from None
    keep_renewed(client, target)
    return client


def _unreachable(target: Endpoint, reason: str) -> TemporalUnavailableError:
    return TemporalUnavailableError(
        f"no Temporal server answers at {target}: {reason}; "
        f"start one (`etl up` does) or correct the address"
    )


def _refused(target: Endpoint, status: RPCStatusCode) -> ETLError:
    """Result of the namespace check."""
    if status == RPCStatusCode.NOT_FOUND:
        name = target.namespace
        return UnknownNamespaceError(
            f"Temporal at {target.address} has no namespace {name!r}: create it "
            f"(`temporal operator namespace create --namespace {name}`) "
            f"or correct {target.prefix}NAMESPACE"
        )
    if status in _REFUSED:
        return _denied(target)
    return _unreachable(target, status.name.replace("_", " ").lower())


def _denied(target: Endpoint) -> CredentialsError:
    return CredentialsError(
        f"Temporal at {target.address} refused access to namespace {target.namespace!r}: check "
        f"{target.prefix}API_KEY or {target.prefix}TLS_CLIENT_CERT_* and _KEY_*, and what they "
        f"may do there"
    )


#: Causes of failed connections by patterns in their texts: the first that is found decides.
_FAILURES: tuple[tuple[str, str], ...] = (
    (r"code: (Unauthenticated|PermissionDenied)", "denied"),
    (r"CertificateRequired|BadCertificate|AccessDenied|CertificateRevoked", "denied"),
    (
        r"PrivateKeyParseError|CertificateParseError|KeyMismatch|NoCertificates",
        "the certificate and key do not fit, or are not PEM: check {prefix}TLS_*_CERT_* and _KEY_*",
    ),
    (
        r"UnknownIssuer|NotValidForName|InvalidCertificate|invalid peer certificate",
        "its certificate is not trusted: check {prefix}TLS_SERVER_CA_CERT_* and _SERVER_NAME",
    ),
    (
        r"InvalidContentType|InvalidMessage",
        "the server does not speak TLS: set {prefix}TLS=false, or correct {prefix}ADDRESS",
    ),
)
_UNREACHABLE: tuple[tuple[str, str], ...] = (
    (r"ConnectionRefused", "connection refused"),
    (r"dns error", "the host's name is not known"),
    (r"NetworkUnreachable|HostUnreachable", "no route to the host"),
    (r"TimedOut|timed out|Elapsed|deadline", "timed out"),
    (r"h2 protocol error|Http2", "what answers is not Temporal, or expects TLS"),
    (r"code: Unavailable", "unavailable"),
)


def _failed(target: Endpoint, text: str) -> ETLError:
    """Explain an error that the SDK gives as the debugging text of its Rust core."""
    for pattern, meaning in _FAILURES:
        if re.search(pattern, text):
            if meaning == "denied":
                return _denied(target)
            return ConfigurationError(
                f"cannot connect to Temporal at {target}: {meaning.format(prefix=target.prefix)}"
            )
    for pattern, reason in _UNREACHABLE:
        if re.search(pattern, text):
            return _unreachable(target, reason)
    # A server that wants TLS, or another certificate, often just hangs up.
    wanted = f"{target.prefix}TLS_CLIENT_*" if target.tls else f"{target.prefix}TLS=true"
    return _unreachable(target, f"it closed the connection, and may want {wanted}")
