"""Base classes of sources' settings, which are read from the bound connection.

    class ShopRate(RateSettings, alias_generator=variables("SHOP")): ...

    class ShopSettings(ShopRate, HttpSettings, alias_generator=variables("SHOP")):
        token: SecretStr = Field(description="the access token")  # SHOP_TOKEN

    rate_budget("shop")(ShopRate.budget)

A subclass repeats a field only where its default, its bounds or its description differ.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Self

from pydantic import AliasGenerator, Field, PositiveFloat, PositiveInt, PrivateAttr
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from temporaletl.bound_connection import DEFAULT, binding, connection_in_use
from temporaletl.budget import RATES, RateBudget
from temporaletl.connections.declarations import declaration_of
from temporaletl.connections.entries import Connection
from temporaletl.connections.providers import find_connection, has_connections
from temporaletl.errors import ConfigurationError, SettingsError
from temporaletl.settings.platform import Settings, variables_of
from temporaletl.settings.secret_files import SecretFile


def variables(prefix: str) -> AliasGenerator:
    """Name each setting after its variable: `page_size` of SHOP is SHOP_PAGE_SIZE.

    A `validation_alias` of the field's own wins.
    """
    return AliasGenerator(validation_alias=lambda name: f"{prefix}_{name.upper()}")


class UnboundSourceError(RuntimeError):
    """Settings of a source were read while no connection was bound: a fault in the code."""


class SourceSettings(Settings):
    """Base of a source's settings: its site, its account, its rate.

    Of the connection `default` they are the environment's. Those of a named connection are what
    its declaration says, and the defaults: nothing of the environment is mixed in. Settings of two
    connections are never equal, so that neither are their clients.
    """

    of_source: ClassVar[bool] = True
    #: The module without which the source cannot be read, and the extra of ours that brings it.
    library: ClassVar[tuple[str, str] | None] = None
    #: The ways to log in, by name: the fields that each wants. `etl init` asks for those of one.
    logins: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Further fields that `etl init` asks for, behind the required ones: those that most set.
    usual: ClassVar[tuple[str, ...]] = ()

    _connection: str = PrivateAttr(DEFAULT)
    #: The variables that a named connection has in files and variables of its own.
    _referenced: frozenset[str] = PrivateAttr(default=frozenset())

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._connection = connection_in_use()

    @property
    def replaceable(self) -> frozenset[str]:
        """As `Settings.replaceable`; a named connection may refer to its user, too."""
        fields = type(self).model_fields.items()
        referenced = (
            name for name, one in fields if self._referenced.intersection(variables_of(name, one))
        )
        return super().replaceable.union(referenced)

    @classmethod
    def secret_files(cls) -> Mapping[str, SecretFile]:
        """Those of the environment; a named connection says itself which files its secrets are in.

        Raises: as `Settings.secret_files`.
        """
        return super().secret_files() if _bound_connection(cls) is None else {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        connection = _bound_connection(cls)
        if connection is None:
            return super().settings_customise_sources(
                settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
            )
        return init_settings, _Given(settings_cls, connection.values())

    @classmethod
    def load(cls) -> Self:
        """Read the bound connection's settings, those of `default` from the environment.

        Raises:
            ConfigurationError: names each one that is missing or wrong, and its use; or there is
                no such connection, or the source's library is not installed.
            UnboundSourceError: there are connections, and none is bound.
        """
        connection = _bound_connection(cls)
        if cls.library is not None and find_spec(cls.library[0]) is None:
            module, extra = cls.library
            raise ConfigurationError(
                f"the library {module} is not installed: `pip install 'temporaletl[{extra}]'`"
            )
        try:
            settings = super().load()
        except ConfigurationError as error:
            if connection is None or str(error).startswith(connection.what):
                raise
            message = f"{connection.what}: {connection.without_values(str(error))}"
            variables = error.variables if isinstance(error, SettingsError) else None
            raise SettingsError(message, variables=variables) from None
        if connection is not None:
            settings._referenced = frozenset(connection.references)  # noqa: SLF001 - of this class
        return settings


#: A setting of requests a second, within the bounds that a rate limit can be kept in.
RequestRate = Annotated[float, Field(ge=RATES[0], le=RATES[1])]


class RateSettings(SourceSettings):
    """A source's rate settings: the requests that it allows.

    A class of its own where it is read although the rest of the source's settings is not set.
    """

    requests_per_second: RequestRate | None = Field(
        None,
        description="requests a second of all workers together, 0.01 to 1,000,000; unset: no limit",
    )

    @classmethod
    def budget(cls) -> RateBudget:
        """The source's rate budget, by its settings: to be registered with `rate_budget`."""
        return RateBudget(requests_per_second=cls.load().requests_per_second)


class HttpSettings(SourceSettings):
    """Settings of a source over HTTP; subclasses add its address and credentials."""

    page_size: PositiveInt = Field(100, description="records in one page")
    concurrency: PositiveInt = Field(8, description="requests at once from one process")
    connect_timeout_seconds: PositiveFloat = Field(10, description="patience for a connection")
    read_timeout_seconds: PositiveFloat = Field(60, description="patience for an answer")

    @classmethod
    def variable(cls, setting: str) -> str:
        """The environment variable of a setting."""
        return str(cls.model_fields[setting].validation_alias or setting.upper())


def _bound_connection(cls: type[SourceSettings]) -> Connection | None:
    """The connection whose settings are read; None where the environment's are."""
    found = binding()
    if found is None:
        if not has_connections():
            return None
        raise UnboundSourceError(
            f"{cls.__name__} is read, and no connection is bound: "
            "see temporaletl.bound_connection.bound"
        )
    connection = find_connection(found.source, found.connection)
    if connection is None:
        return None
    declared = declaration_of(found.source)
    if declared is None or not declared.reads(cls):
        raise ConfigurationError(
            f"{connection.what}: source {found.source!r} reads {cls.__name__}, and does not "
            "declare it with connection_settings"
        )
    return connection


def source_variables(source_values: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of the bound connection: `source_values`, the environment's, for `default`.

    For what a source reads without a settings class.
    """
    found = binding()
    connection = None if found is None else find_connection(found.source, found.connection)
    return source_values if connection is None else connection.values()


class _Given(EnvSettingsSource):
    """Reads values as if they stood in an environment that holds nothing else."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, str]) -> None:
        self._values = values
        super().__init__(settings_cls)
        # Only code names a field.
        self.config = SettingsConfigDict(**{**self.config, "populate_by_name": False})

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._values.items() if value}
