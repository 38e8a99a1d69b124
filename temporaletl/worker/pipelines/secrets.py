"""Secrets that definitions name: `{{ secret("shop") }}` is PIPELINE_SECRET_SHOP, or of its file.

Their values are known to `temporaletl.secrets` from their first use: no log, error or history
shows them.
"""

import os
from collections.abc import Mapping

from pydantic import JsonValue

from temporaletl.connections.entries import dotenv
from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.secrets import holds_secret, remember_secret
from temporaletl.settings.secret_files import FILE, file_of
from temporaletl.worker.pipelines.surroundings import SECRETS, variable_of


class SecretStore:
    """Reads secrets from the environment, or from the files that it names; safe to share."""

    def variables(self) -> frozenset[str]:
        """The variables of the secrets there are."""
        return frozenset(
            name.removesuffix(FILE) for name in _variables() if name.startswith(SECRETS)
        )

    def read(self, name: str) -> str:
        """The value of a secret; its file is read each time, so that it can be replaced.

        Raises:
            NotFoundError: there is none of that name.
            ConfigurationError: its file cannot be read, or both it and the variable are set.
        """
        variable = variable_of(name)
        given = _variables()
        file = file_of((variable,), given)
        value = given.get(variable) if file is None else file.read()
        if not value:
            raise NotFoundError(
                f"there is no secret {name!r}: set {variable}, or {variable}{FILE} to its file, "
                "in the environment of the workers"
            )
        remember_secret(value)
        return value


def _variables() -> Mapping[str, str]:
    return {name: value for name, value in {**dotenv(), **os.environ}.items() if value}


def refuse_secrets(what: str, value: JsonValue) -> None:
    """See that no secret that this process knows stands in what is stored as it is.

    Raises:
        ConfigurationError: one does.
    """
    if holds_secret(value):
        raise ConfigurationError(
            f"{what}: a secret that this process knows must not stand there: "
            '{{ secret("name") }} names one'
        )
