"""Clients of Temporal: where the server is, how to get in, and what to say when it fails.

The address and the namespace come from `TemporalSettings`; the API key, TLS and gRPC metadata
from the variables of the SDK's environment configuration (`TEMPORAL_API_KEY`, `TEMPORAL_TLS`,
`TEMPORAL_TLS_CLIENT_CERT_PATH` or `_DATA`, `TEMPORAL_TLS_CLIENT_KEY_PATH` or `_DATA`,
`TEMPORAL_TLS_SERVER_CA_CERT_PATH` or `_DATA`, `TEMPORAL_TLS_SERVER_NAME`, `TEMPORAL_PROFILE`,
`TEMPORAL_CONFIG_FILE`, `TEMPORAL_GRPC_META_*`), which may stand in a `.env` file too. The data
of a certificate or key is PEM, also with its newlines escaped, or base64 of PEM.

No secret appears in an error or a log.
"""

import asyncio
import base64
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from time import monotonic
from typing import Any

import structlog
from dotenv import dotenv_values
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from temporaletl.credentials import for_metadata
from temporaletl.errors import ConfigurationError, CredentialsError
from temporaletl.failures import RedactedFailures
from temporaletl.secrets import remember_secret
from temporaletl.settings import TemporalSettings, check_encrypted

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = timedelta(seconds=5)
FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(seconds=30)
#: A server that has just been set up answers before its namespace is registered.
NAMESPACE_PATIENCE = timedelta(minutes=2)

_BOOLEANS = {"1": "true", "true": "true", "yes": "true", "on": "true"} | dict.fromkeys(
    ("0", "false", "no", "off"), "false"
)
_PEM_VARIABLES = ("TLS_CLIENT_CERT_DATA", "TLS_CLIENT_KEY_DATA", "TLS_SERVER_CA_CERT_DATA")
_SECRET_METADATA = re.compile(r"auth|token|key|secret|cookie|password")
_REFUSED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)


class ServerUnreachableError(ConfigurationError):
    """No Temporal server answers at the address that is configured."""


class UnknownNamespaceError(ConfigurationError):
    """The server answers, but does not have the namespace."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Temporal server and how to get in; `prefix` begins the variables that say so.

    An address without a port gets Temporal's own, 7233.
    """

    address: str
    namespace: str = "default"
    api_key: str | None = field(default=None, repr=False)
    tls: bool | TLSConfig = field(default=False, repr=False)
    rpc_metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    prefix: str = "TEMPORAL_"

    def __post_init__(self) -> None:
        if not re.search(r":\d+$", self.address):
            object.__setattr__(self, "address", f"{self.address}:7233")

    def __str__(self) -> str:
        return f"{self.address} ({self.prefix}ADDRESS)"


def environment() -> dict[str, str]:
    """The variables of the process and, behind them, those of `.env`; empty ones are unset."""
    found = {**dotenv_values(".env"), **os.environ}
    return {name: value for name, value in found.items() if value}


def access(
    variables: Mapping[str, str], *, prefix: str = "TEMPORAL_", disable_file: bool = False
) -> ClientConfigProfile:
    """Read the SDK's client configuration from variables that begin with `prefix`.

    `disable_file` leaves the SDK's configuration file, and so its profiles, out.

    Raises:
        ConfigurationError: a variable contradicts another or cannot be read; it is named.
    """
    read = {
        f"TEMPORAL_{name.removeprefix(prefix)}": value
        for name, value in variables.items()
        if name.startswith(prefix)
    }
    # The SDK finds its configuration file below these.
    read |= {name: variables[name] for name in ("HOME", "XDG_CONFIG_HOME") if name in variables}
    for name in _PEM_VARIABLES:
        if text := read.get(f"TEMPORAL_{name}"):
            read[f"TEMPORAL_{name}"] = _pem(f"{prefix}{name}", text)
    if text := read.get("TEMPORAL_TLS"):
        # The SDK takes any other word for "not set" and would go on without TLS.
        if (switch := _BOOLEANS.get(text.strip().lower())) is None:
            raise ConfigurationError(f"{prefix}TLS must be true or false")
        read["TEMPORAL_TLS"] = switch
    if key := read.get("TEMPORAL_API_KEY"):
        read["TEMPORAL_API_KEY"] = _sendable(f"{prefix}API_KEY", key)
    for name, value in read.items():
        if name.startswith("TEMPORAL_GRPC_META_"):
            read[name] = _sendable(name.replace("TEMPORAL_", prefix, 1), value)
    remember_secret(read.get("TEMPORAL_TLS_CLIENT_KEY_DATA", ""))
    try:
        return ClientConfigProfile.load(disable_file=disable_file, override_env_vars=read)
    except Exception as error:  # noqa: BLE001 - the SDK's own class is not public
        # Only the first line: those behind it quote the configuration file, secrets and all.
        reason = str(error).partition("\n")[0].replace(" TEMPORAL_", f" {prefix}")
        raise ConfigurationError(f"the Temporal client configuration: {reason}") from None


def _sendable(variable: str, value: str) -> str:
    """A value of a header, which is kept out of all that leaves the process."""
    remember_secret(value)
    try:
        return for_metadata(value)
    except ValueError as error:
        raise ConfigurationError(f"{variable} {error}") from None


def _pem(variable: str, text: str) -> str:
    text = text.strip()
    if not text.startswith("-----"):
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode("ascii")
        except ValueError:
            text = ""
        if not text.startswith("-----"):
            raise ConfigurationError(f"{variable} is neither PEM nor base64 of PEM")
    # Files of variables keep a certificate on one line by escaping its newlines.
    return text.replace("\\n", "\n")


def endpoint(settings: TemporalSettings, variables: Mapping[str, str] | None = None) -> Endpoint:
    """Where the platform's own Temporal is.

    What `settings` were given wins; a profile of the SDK's configuration file may say the rest.

    Raises:
        ConfigurationError: a variable contradicts another or cannot be read; it is named.
    """
    profile = access(environment() if variables is None else variables)
    placed = settings.model_fields_set & {"address", "host", "port"}
    named = "namespace" in settings.model_fields_set
    return secured(
        Endpoint(
            address=settings.target if placed else profile.address or settings.target,
            namespace=settings.namespace if named else profile.namespace or settings.namespace,
        ),
        profile,
    )


def secured(place: Endpoint, profile: ClientConfigProfile) -> Endpoint:
    """The endpoint with the profile's API key, TLS and metadata.

    Raises:
        ConfigurationError: a certificate or key cannot be read; the file is named.
    """
    tls: bool | TLSConfig = profile.api_key is not None
    if profile.tls is not None:
        try:
            tls = profile.tls.to_connect_tls_config()
        except OSError as error:
            raise ConfigurationError(
                f"{place.prefix}TLS_*_PATH: cannot read {error.filename}: {error.strerror}"
            ) from None
    metadata = dict(profile.grpc_meta)
    if not tls and (profile.api_key or any(_SECRET_METADATA.search(name) for name in metadata)):
        try:
            check_encrypted(f"http://{place.address}", f"{place.prefix}ADDRESS", needs="TLS")
        except ValueError as error:
            raise ConfigurationError(f"{error}; {place.prefix}TLS=true turns it on") from None
    return replace(place, api_key=profile.api_key, tls=tls, rpc_metadata=metadata)


def data_converter(variables: Mapping[str, str] | None = None) -> DataConverter:
    """How messages become payloads; every client, worker and replayer uses this one.

    Raises:
        ConfigurationError: ETL_PAYLOAD_KEYS is set: better no run than one in clear text.
    """
    if (environment() if variables is None else variables).get("ETL_PAYLOAD_KEYS"):
        raise ConfigurationError(
            "ETL_PAYLOAD_KEYS is set, but this build cannot encrypt payloads; unset it"
        )
    return replace(pydantic_data_converter, failure_converter_class=RedactedFailures)


async def connect(
    settings: TemporalSettings,
    *,
    within: timedelta = CONNECT_TIMEOUT,
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
) -> Client:
    """Connect to the platform's Temporal, or fail `within` that time: for commands.

    Raises:
        ServerUnreachableError: nothing answers there (a ConfigurationError).
        UnknownNamespaceError: the server lacks the namespace (a ConfigurationError).
        ConfigurationError: a variable, the address or a certificate is wrong.
        CredentialsError: the server refused the API key or certificate.
    """
    return await open_client(
        endpoint(settings), within=within, interceptors=interceptors, runtime=runtime
    )


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
        UnknownNamespaceError, ConfigurationError, CredentialsError: as `connect`.
    """
    target = endpoint(settings)
    delay = FIRST_DELAY
    answered: float | None = None
    while True:
        try:
            return await open_client(
                target, within=within, interceptors=interceptors, runtime=runtime
            )
        except ServerUnreachableError as error:
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


@cache
def _logging_runtime() -> Runtime:
    """The process's runtime: what the SDK's core has to say goes to Python's logs.

    Left to itself it writes to standard output, into the midst of what a command prints there.
    """
    core = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=levels, forwarding=core)))


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
    return client


def _unreachable(target: Endpoint, reason: str) -> ServerUnreachableError:
    return ServerUnreachableError(
        f"no Temporal server answers at {target}: {reason}; "
        f"start one (`etl up` does) or correct the address"
    )


def _refused(target: Endpoint, status: RPCStatusCode) -> ConfigurationError | CredentialsError:
    """What the namespace check came to."""
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


#: What a failed connection's text tells: the first pattern that is found decides.
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


def _failed(target: Endpoint, text: str) -> ConfigurationError | CredentialsError:
    """Say in words what the SDK tells as the debugging text of its Rust core."""
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
