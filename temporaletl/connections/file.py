"""The connections file (ETL_CONNECTIONS), in TOML: parsed and checked.

    [acme]
    source = "jira"
    JIRA_URL = "https://acme.atlassian.net"
    JIRA_EMAIL = "loader@example.com"
    JIRA_API_TOKEN = { env = "ACME_TOKEN" }

The connections that are declared there are parsed by `temporaletl.connections.entries`, and found
by `temporaletl.connections.providers`.
"""

import re
import threading
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from temporaletl.connections.entries import Connection, Origin, parse_connection
from temporaletl.errors import ConfigurationError
from temporaletl.settings.platform import Settings


class _FileSettings(Settings):
    """The setting that names the connections file."""

    file: Path | None = Field(
        None,
        validation_alias="ETL_CONNECTIONS",
        description="the TOML file that holds the connections",
    )


def connections_file() -> Path | None:
    """The configured connections file; None where `default` is the only connection."""
    return _FileSettings.load().file


@dataclass(frozen=True, slots=True)
class FileConnections:
    """Provider of the connections that the configured file declares, as it is at the time."""

    origin: Origin = "file"

    def is_configured(self) -> bool:
        """Whether a file is named."""
        return connections_file() is not None

    def names(self) -> Sequence[str]:
        """All names of the file, in order.

        Raises:
            ConfigurationError: the file cannot be read, or is no TOML.
        """
        file = connections_file()
        return [] if file is None else sorted(_read(file))

    def place(self) -> str:
        """The file's path, in messages."""
        return str(connections_file())

    def get(self, name: str) -> Connection:
        """The connection of that name, of those that there are.

        Raises:
            ConfigurationError: as `names`, or something in the declaration is wrong.
        """
        file = connections_file()
        section = None if file is None else _read(file)[name]
        if not isinstance(section, dict):
            raise ConfigurationError(f"{file}: {name!r} stands in no connection, such as [acme]")
        return parse_connection(section, name=name, origin=self.origin, place=str(file))

    def absence(self) -> str:
        """Why a connection is not here, in words; behind its name."""
        if not self.is_configured():
            return (
                "ETL_CONNECTIONS, which would name the file that holds the connections, is not set"
            )
        return f"it has {', '.join(self.names()) or 'none'}"


_known: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
_guard = threading.Lock()


def _read(file: Path) -> dict[str, Any]:
    try:
        found = file.stat()
        stamp = (found.st_mtime_ns, found.st_size)
        with _guard:
            known = _known.get(file)
            if known is None or known[0] != stamp:
                # Editors on Windows begin a file with a mark that is no part of it.
                text = file.read_text(encoding="utf-8-sig")
                known = _known[file] = (stamp, tomllib.loads(text))
            return known[1]
    except OSError as error:
        raise ConfigurationError(f"ETL_CONNECTIONS: cannot read {file}: {error.strerror}") from None
    except RecursionError:
        raise ConfigurationError(
            f"{file}: something in it is nested too deep; a setting is a text, a number, true, "
            "false, or where a secret is"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Whatever is quoted of the file may be a secret.
        position = re.search(r"\((at [^)]*)\)", str(error))
        raise ConfigurationError(
            f"{file} is no TOML{f', {position[1]}' if position else ''}; "
            'a connection is [name], with source = "…" and its settings'
        ) from None
