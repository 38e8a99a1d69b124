"""Secrets that definitions name: `{{ secret("shop") }}` is PIPELINE_SECRET_SHOP, or of its file.

Their values are known to `temporaletl.secrets` from their first use: no log, error or history
shows them.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from temporaletl.connection_entries import dotenv
from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.secrets import remember_secret
from temporaletl.worker.pipelines.surroundings import SECRETS, variable_of

_FILE = "_FILE"


class SecretStore:
    """Reads secrets from the environment, or from the files that it names; safe to share."""

    def variables(self) -> frozenset[str]:
        """The variables of the secrets there are."""
        return frozenset(
            name.removesuffix(_FILE) for name in _variables() if name.startswith(SECRETS)
        )

    def read(self, name: str) -> str:
        """The value of a secret; its file is read each time, so that it can be replaced.

        Raises:
            NotFoundError: there is none of that name.
            ConfigurationError: its file cannot be read.
        """
        variable = variable_of(name)
        given = _variables()
        value, path = given.get(variable), given.get(variable + _FILE)
        if value is None and path is not None:
            try:
                value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeError) as error:
                raise ConfigurationError(f"{variable}{_FILE} cannot be read: {error}") from None
        if not value:
            raise NotFoundError(
                f"there is no secret {name!r}: set {variable}, or {variable}{_FILE} to its file, "
                "in the environment of the workers"
            )
        remember_secret(value)
        return value


def _variables() -> Mapping[str, str | None]:
    return {**dotenv(), **os.environ}
