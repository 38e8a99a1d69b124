"""Databases that nodes of pipelines read and write: the TOML file that PIPELINE_DATABASES names.

[shop]
dsn = { env = "SHOP_DSN" }        # or { file = "/run/secrets/shop" }
writable = false
statement_timeout_seconds = 60
"""

import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from temporaletl.connections.entries import dotenv
from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.secrets import remember_secret
from temporaletl.settings.platform import Settings
from temporaletl.settings.secret_files import read_secret

_VARIABLE = "PIPELINE_DATABASES"


class _FileSettings(Settings):
    file: Path | None = Field(None, validation_alias=_VARIABLE)


class _Location(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True
    )

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> "_Location":
        if (self.env is None) == (self.file is None):
            raise ValueError("needs one of env and file")
        return self


class Database(BaseModel):
    """A database that definitions name; where its DSN is, never the DSN itself."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True
    )

    name: str
    dsn: _Location
    writable: bool = False
    statement_timeout_seconds: float = Field(60, gt=0, le=86_400)

    @property
    def statement_timeout(self) -> timedelta:
        return timedelta(seconds=self.statement_timeout_seconds)

    def conninfo(self) -> str:
        """Its DSN, read each time so that it can be replaced; no text shows it from then on.

        Raises:
            ConfigurationError: it is not where it should be, or is none.
        """
        if self.dsn.env is not None:
            value, where = os.environ.get(self.dsn.env) or dotenv().get(self.dsn.env), self.dsn.env
        else:
            where = str(self.dsn.file)
            value = read_secret(where, what=f"database {self.name}").strip()
        if not value:
            raise ConfigurationError(f"database {self.name}: {where} is not set, or is empty")
        remember_secret(value)
        try:
            parts = conninfo_to_dict(value)
        except ProgrammingError:
            raise ConfigurationError(f"database {self.name}: {where} is no DSN") from None
        remember_secret(str(parts.get("password") or ""))
        return value


def known_databases() -> dict[str, Database] | None:
    """The databases by name; None where no file is named.

    Raises:
        ConfigurationError: the file cannot be read, or something in it is wrong.
    """
    file = _FileSettings.load().file
    if file is None:
        return None
    try:
        sections = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{_VARIABLE}: cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        # Whatever is quoted of the file may be a secret.
        raise ConfigurationError(f"{_VARIABLE}: {file} is no TOML") from None
    return {name: _database(file, name, section) for name, section in sections.items()}


def find_database(name: str) -> Database:
    """The database of that name.

    Raises:
        NotFoundError: there is none.
        ConfigurationError: as `known_databases`.
    """
    known = known_databases() or {}
    if name not in known:
        listed = ", ".join(known) or "none"
        raise NotFoundError(f"no database is called {name}; {_VARIABLE} has {listed}")
    return known[name]


def _database(file: Path, name: str, section: Any) -> Database:
    if not isinstance(section, dict):
        raise ConfigurationError(f"{file}: {name} stands in no database, such as [shop]")
    if isinstance(section.get("dsn"), str):
        remember_secret(section["dsn"])
        raise ConfigurationError(
            f'{file}: {name}: dsn is {{ env = "…" }} or {{ file = "…" }}, not written out'
        )
    try:
        return Database.model_validate({**section, "name": name})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise ConfigurationError(f"{file}: {name}: {faults}") from None
