"""Settings of the source `temporal`, which may name another server than the platform's own.

By default the platform's own Temporal is the source. `SOURCE_TEMPORAL_ADDRESS` names another,
which is then entered with `SOURCE_TEMPORAL_API_KEY`, `SOURCE_TEMPORAL_TLS` and
`SOURCE_TEMPORAL_TLS_*` alone: the platform's own credentials are not sent there. The variables
are those of `temporaletl.temporal.connect` under another prefix.
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field, NonNegativeFloat
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import NoDecode

from temporaletl.bound_connection import DEFAULT, connection_in_use
from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import (
    RequestRate,
    SourceSettings,
    source_variables,
    variables,
)
from temporaletl.errors import ConfigurationError
from temporaletl.settings.environment import environment
from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal.endpoint import Endpoint, access, endpoint, secured

_PREFIX = "SOURCE_TEMPORAL_"


def _names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


class SourceTemporalSettings(SourceSettings, alias_generator=variables("SOURCE_TEMPORAL")):
    """Settings of source `temporal`: server, namespaces, rate. TLS and API key: see the module."""

    usual = ("address", "namespaces")

    address: str | None = Field(
        None, description="another Temporal, host:port; default the platform's own"
    )
    namespaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        (),
        description="the namespaces to read, separated by commas; default the platform's own",
    )
    page_size: int = Field(
        1000,
        ge=1,
        le=1000,  # what servers allow
        description="executions in one page, 1 to 1000",
    )
    requests_per_second: RequestRate = Field(
        5,
        description="requests a second of one process; servers allow ten a second for all",
    )
    lag_seconds: NonNegativeFloat = Field(
        10,
        description="how far windows end behind now, as executions are listed late",
    )


def source_settings() -> tuple[SourceTemporalSettings, Endpoint]:
    """Read the settings and the endpoint of the source, with its namespaces filled in.

    Raises:
        ConfigurationError: a variable or a certificate is wrong; it is named.
    """
    settings = SourceTemporalSettings.load()
    given, in_files = source_variables(environment()), connection_in_use() == DEFAULT
    own = access(given, prefix=_PREFIX, disable_file=True, in_files=in_files)
    platform = TemporalSettings.load()
    if settings.address is None:
        server = endpoint(platform)
        if own.api_key is not None or own.tls is not None:
            server = replace(secured(server, own), prefix=_PREFIX)
    else:
        if connection_in_use() != DEFAULT and not settings.namespaces:
            raise ConfigurationError(
                f"connection {connection_in_use()!r}: SOURCE_TEMPORAL_NAMESPACES is not set (the "
                "namespaces to read at SOURCE_TEMPORAL_ADDRESS)"
            )
        server = Endpoint(settings.address, namespace=platform.namespace, prefix=_PREFIX)
        server = secured(server, own)
    namespaces = settings.namespaces or (server.namespace,)
    return settings.model_copy(update={"namespaces": namespaces}), server


connection_settings(
    "temporal",
    SourceTemporalSettings,
    names=(
        "SOURCE_TEMPORAL_TLS",
        "SOURCE_TEMPORAL_TLS_*_PATH",
        "SOURCE_TEMPORAL_TLS_CLIENT_CERT_DATA",
        "SOURCE_TEMPORAL_TLS_SERVER_CA_CERT_DATA",
        "SOURCE_TEMPORAL_TLS_SERVER_NAME",
    ),
    secret_names=(
        "SOURCE_TEMPORAL_API_KEY",
        "SOURCE_TEMPORAL_TLS_CLIENT_KEY_DATA",
        "SOURCE_TEMPORAL_GRPC_META_*",
    ),
)
