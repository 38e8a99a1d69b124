"""Endpoint of a Temporal server: address, namespace, TLS and API key.

The address and the namespace come from `TemporalSettings`; the API key, TLS and gRPC metadata
from the variables of the SDK's environment configuration (`TEMPORAL_API_KEY`, `TEMPORAL_TLS`,
`TEMPORAL_TLS_CLIENT_CERT_PATH` or `_DATA`, `TEMPORAL_TLS_CLIENT_KEY_PATH` or `_DATA`,
`TEMPORAL_TLS_SERVER_CA_CERT_PATH` or `_DATA`, `TEMPORAL_TLS_SERVER_NAME`, `TEMPORAL_PROFILE`,
`TEMPORAL_CONFIG_FILE`, `TEMPORAL_GRPC_META_*`), which may stand in a `.env` file too. The data
of a certificate or key is PEM, also with its newlines escaped, or base64 of PEM. `_FILE` behind the
name of the API key, or of metadata, names a file with it.

No secret appears in an error or a log.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from temporaletl.credentials import for_metadata
from temporaletl.errors import ConfigurationError
from temporaletl.secrets import remember_secret
from temporaletl.settings.addresses import check_encrypted
from temporaletl.settings.environment import environment
from temporaletl.settings.platform import TemporalSettings
from temporaletl.settings.secret_files import FILE, with_files
from temporaletl.temporal import sdk

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConfigProfile
    from temporalio.service import TLSConfig

CONNECT_TIMEOUT = timedelta(seconds=5)

_BOOLEANS = {"1": "true", "true": "true", "yes": "true", "on": "true"} | dict.fromkeys(
    ("0", "false", "no", "off"), "false"
)
_PEM_VARIABLES = ("TLS_CLIENT_CERT_DATA", "TLS_CLIENT_KEY_DATA", "TLS_SERVER_CA_CERT_DATA")
_SECRET_METADATA = re.compile(r"auth|token|key|secret|cookie|password")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Endpoint of a Temporal server; `prefix` begins the names of its variables.

    An address without a port gets Temporal's own, 7233. `reread` gives it with the credentials that
    are in files as these are at the time; None: none is.
    """

    address: str
    namespace: str = "default"
    api_key: str | None = field(default=None, repr=False)
    tls: bool | TLSConfig = field(default=False, repr=False)
    rpc_metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    prefix: str = "TEMPORAL_"
    reread: Callable[[], Endpoint] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not re.search(r":\d+$", self.address):
            object.__setattr__(self, "address", f"{self.address}:7233")

    def __str__(self) -> str:
        return f"{self.address} ({self.prefix}ADDRESS)"


def access(
    variables: Mapping[str, str],
    *,
    prefix: str = "TEMPORAL_",
    disable_file: bool = False,
    in_files: bool = True,
) -> ClientConfigProfile:
    """Read the SDK's client configuration from variables that begin with `prefix`.

    `disable_file` leaves the SDK's configuration file, and so its profiles, out. `in_files`:
    whether credentials may be in files; whoever stores a connection does not choose what is read.

    Raises:
        ConfigurationError: a variable contradicts another or cannot be read; it is named.
    """
    given = with_files(variables, _in_files(variables, prefix)) if in_files else variables
    read = {
        f"TEMPORAL_{name.removeprefix(prefix)}": value
        for name, value in given.items()
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
        return sdk.ClientConfigProfile.load(disable_file=disable_file, override_env_vars=read)
    except Exception as error:  # noqa: BLE001 - the SDK's own class is not public
        # Only the first line: those behind it quote the configuration file, secrets and all.
        reason = str(error).partition("\n")[0].replace(" TEMPORAL_", f" {prefix}")
        raise ConfigurationError(f"the Temporal client configuration: {reason}") from None


def _in_files(variables: Mapping[str, str], prefix: str) -> list[str]:
    """The variables whose values are in files."""
    credentials = (f"{prefix}API_KEY", f"{prefix}GRPC_META_")
    given = (name for name in variables if name.endswith(FILE) and name.startswith(credentials))
    return [name.removesuffix(FILE) for name in given]


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
    """The endpoint of the platform's own Temporal.

    What `settings` were given wins; a profile of the SDK's configuration file may say the rest.

    Raises:
        ConfigurationError: a variable contradicts another or cannot be read; it is named.
    """
    given = environment() if variables is None else variables
    profile = access(given)
    placed = settings.model_fields_set & {"address", "host", "port"}
    named = "namespace" in settings.model_fields_set
    return secured(
        Endpoint(
            address=settings.target if placed else profile.address or settings.target,
            namespace=settings.namespace if named else profile.namespace or settings.namespace,
            reread=partial(endpoint, settings, given) if _in_files(given, "TEMPORAL_") else None,
        ),
        profile,
    )


def secured(endpoint: Endpoint, profile: ClientConfigProfile) -> Endpoint:
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
                f"{endpoint.prefix}TLS_*_PATH: cannot read {error.filename}: {error.strerror}"
            ) from None
    metadata = dict(profile.grpc_meta)
    if not tls and (profile.api_key or any(_SECRET_METADATA.search(name) for name in metadata)):
        try:
            check_encrypted(f"http://{endpoint.address}", f"{endpoint.prefix}ADDRESS", needs="TLS")
        except ValueError as error:
            raise ConfigurationError(f"{error}; {endpoint.prefix}TLS=true turns it on") from None
    return replace(endpoint, api_key=profile.api_key, tls=tls, rpc_metadata=metadata)
