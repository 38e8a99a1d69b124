"""The base class of settings: read from the environment and a `.env` file, with secrets kept in.

A secret may be in a file instead, which the variable with `_FILE` behind its name has the path of.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from temporaletl.credentials import check_visible, for_header
from temporaletl.errors import SettingsError
from temporaletl.secrets import remember_secret
from temporaletl.settings.secret_files import FILE, SecretFile, file_of, shown_path
from temporaletl.validation import faults_of

_given: ContextVar[Mapping[str, str]] = ContextVar("given_variables", default={})  # noqa: B039


@contextmanager
def given_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Put variables before those of the environment and the `.env` file, in this context.

    Tasks and threads that are started in it read them, too. An empty one is not given.
    """
    token = _given.set({**_given.get(), **variables})
    try:
        yield
    finally:
        _given.reset(token)


def presently_given() -> Mapping[str, str]:
    """The variables that this context puts before those of the environment."""
    return _given.get()


def environment() -> dict[str, str]:
    """The variables of the process and, behind them, those of `.env`; empty ones are unset.

    Those that the context gives go before both.
    """
    found = {**_process(), **{k: v for k, v in _given.get().items() if v}}
    return {name: value for name, value in found.items() if value}


def _process() -> dict[str, str | None]:
    return {**dotenv_values(".env", encoding="utf-8-sig"), **os.environ}


class Settings(BaseSettings):
    """Base of all settings: frozen, from the environment, empty values unset.

    Secrets lose the white space around them, must fit into a header unless `free_secrets` or
    `key_secrets` name them, and are kept out of all that leaves the process.
    """

    #: Secrets that are sent in no header, such as passwords of other protocols: one visible line.
    free_secrets: ClassVar[frozenset[str]] = frozenset()
    #: Keys on several lines (PEM).
    key_secrets: ClassVar[frozenset[str]] = frozenset()

    #: The files that secrets were read from, by field.
    _files: Mapping[str, SecretFile] = PrivateAttr(default_factory=dict)

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8-sig",
        dotenv_filtering="only_existing",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        populate_by_name=True,
        # No span is endless: Temporal and Python take none.
        allow_inf_nan=False,
        defer_build=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if given := _given.get():
            assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101 - what pydantic makes
            given = {name.lower(): value for name, value in given.items() if value}
            env_settings.env_vars = {**env_settings.env_vars, **given}
        # Only code names a field: USER, HOST or PORT in an environment mean something else.
        for source in (env_settings, dotenv_settings):
            source.config = SettingsConfigDict(**{**source.config, "populate_by_name": False})
        return init_settings, env_settings, dotenv_settings

    @field_validator("*", mode="before")
    @classmethod
    def _trim_secret(cls, value: object, info: ValidationInfo) -> object:
        if info.field_name not in cls.secrets():
            return value
        # Before anything looks at it: an error about it must not show it either.
        for text in _texts(value):
            remember_secret(text)
        return value.strip() if isinstance(value, str) else value

    @field_validator("*", mode="after")
    @classmethod
    def _clean_secret(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, SecretStr):
            for inner in _secrets_in(value):
                remember_secret(inner.get_secret_value())
                for_header(inner.get_secret_value())
            return value
        text = value.get_secret_value().strip()
        remember_secret(text)
        if not text:
            raise ValueError("is empty")
        if info.field_name in cls.key_secrets:
            for line in text.splitlines():
                check_visible(line.replace("\t", " "))
        elif info.field_name in cls.free_secrets:
            check_visible(text)
        else:
            text = for_header(text)
        return SecretStr(text)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """The names of the fields that hold secrets."""
        return _secrets_of(cls)

    @classmethod
    def fault_of(cls, variable: str, value: str) -> str | None:
        """What is wrong with the value of one variable, whatever the others are; None: nothing."""
        with given_variables({variable: value}):
            try:
                cls()
            except ValidationError as error:
                of_it = (text for names, text in _faults(cls, error) if variable in names)
                return next(of_it, None)
        return None

    @classmethod
    def load(cls) -> Self:
        """Read the environment, and the files that hold secrets.

        Raises:
            SettingsError: names each variable that is missing or wrong, and its use.
            ConfigurationError: a secret's file cannot be read, or is empty.
        """
        files = cls.secret_files()
        try:
            with given_variables({file.variable: file.read() for file in files.values()}):
                settings = cls()
        except ValidationError as error:
            message, variables = _explain(cls, error, files)
            raise SettingsError(message, variables=variables) from None
        settings._files = files
        return settings

    @classmethod
    def present(cls) -> Self:
        """As `load`, which is repeated only where the environment or `.env` is another by now.

        For settings that are needed again and again, and that nothing else decides, such as a
        connection. Secrets are always read. Raises: as `load`.
        """
        place = (tuple(os.environ.items()), tuple(_given.get().items()), _state_of_file())
        known = _loaded.get(cls)
        if known is not None and known[0] == place:
            return cast("Self", known[1])
        settings = cls.load()
        if not cls.secrets() & settings.model_fields_set:
            _loaded[cls] = place, settings
        return settings

    @classmethod
    def secret_files(cls) -> Mapping[str, SecretFile]:
        """The files that secrets are in instead of variables, by field.

        What the context gives hides those of the process.

        Raises:
            SettingsError: a secret is given in both; both variables are named.
        """
        if not cls.secrets():
            return {}
        places = [
            {name.upper(): value for name, value in place.items() if value}
            for place in (_given.get(), _process())
        ]
        found = {}
        for name, names in file_variables(cls).items():
            wanted = [one.upper() for one in names]
            for place in places:
                if file := file_of(wanted, place):
                    found[name] = file
                if any(one in place for one in wanted) or file is not None:
                    break
        return found

    def renewed(self) -> Self:
        """These settings, with the secrets that were read from files as the files hold them now.

        Raises:
            SettingsError, ConfigurationError: as `load`.
        """
        if not self._files:
            return self
        same = {name: getattr(self, name) for name in self.model_fields_set}
        read = {name: file.read() for name, file in self._files.items()}
        try:
            settings = type(self)(**{**same, **read})
        except ValidationError as error:
            raise SettingsError(_explain(type(self), error, self._files)[0]) from None
        settings._files = self._files  # noqa: SLF001 - an instance of this class
        return settings

    @property
    def replaceable(self) -> frozenset[str]:
        """The fields that may be read anew with other values while a process runs."""
        return self.secrets()

    def is_replaced_by(self, other: object) -> bool:
        """Whether others are these, but for what may be replaced while a process runs."""
        if not isinstance(other, type(self)) or self == other:
            return False
        read_anew = {name: getattr(other, name) for name in self.replaceable}
        return self.model_copy(update=read_anew) == other


#: What `Settings.present` has loaded, and from which environment.
_loaded: dict[type[Settings], tuple[object, Settings]] = {}


def _state_of_file() -> object:
    try:
        found = Path(".env").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@cache
def _secrets_of(cls: type[Settings]) -> frozenset[str]:
    return frozenset(
        name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation)
    )


def file_variables(cls: type[Settings]) -> dict[str, list[str]]:
    """The variables of a class's secrets that files can hold instead, by field.

    Not those for which the class has a setting of its own: it reads that file otherwise.
    """
    variables = {name: variables_of(name, field) for name, field in cls.model_fields.items()}
    own = {one for names in variables.values() for one in names}
    return {
        name: variables[name]
        for name in cls.secrets()
        if not any(one + FILE in own for one in variables[name])
    }


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [inner.get_secret_value() for inner in _secrets_in(value)]


def _secrets_in(value: object) -> list[SecretStr]:
    """The secrets that a value consists of, however deep."""
    if isinstance(value, SecretStr):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return [secret for inner in value for secret in _secrets_in(inner)]
    return []


def _explain(
    cls: type[Settings], error: ValidationError, files: Mapping[str, SecretFile]
) -> tuple[str, frozenset[str] | None]:
    """What is wrong in words, and the variables concerned, None where it is not single ones."""
    faults = _faults(cls, error, files)
    variables = None if any(not names for names, _ in faults) else chain(*(n for n, _ in faults))
    message = "; ".join(text for _, text in faults)
    return message, None if variables is None else frozenset(variables)


def _faults(
    cls: type[Settings], error: ValidationError, files: Mapping[str, SecretFile] | None = None
) -> list[tuple[list[str], str]]:
    """The faults in words, each with the variables of its field, none where it is no field's."""
    found: list[tuple[list[str], str]] = []
    for fault in faults_of(error):
        location = str(fault.location[0]) if fault.location else ""
        known = next(
            ((n, f) for n, f in cls.model_fields.items() if location in (n, *variables_of(n, f))),
            None,
        )
        if known is None:
            found.append(([], fault.message))
            continue
        name, field = known
        what = "is not set" if fault.type == "missing" else f"is wrong: {fault.message}"
        use = f" ({field.description})" if field.description else ""
        names = variables_of(name, field)
        file = (files or {}).get(name)
        shown = names[0] if file is None else f"{file.what}: what {shown_path(file.path)} holds"
        found.append((names, f"{shown} {what}{use}"))
    return found


def variables_of(name: str, field: Any) -> list[str]:
    """The environment variables of a field, the one that is documented first."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [str(alias or name).upper()]


def near_variable(name: str, known: Iterable[str]) -> str | None:
    """The known variable that a name is nearest to, where it is likely meant.

    Names that begin alike are near already: more than that must agree.
    """
    return next(iter(difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.75)), None)
