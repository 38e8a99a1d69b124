"""Settings as an environment of a test's own gives them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from temporaletl.settings.platform import Settings


def loader[S: Settings](
    cls: type[S], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Callable[..., S]:
    """Load a class's settings from these variables alone; without any `.env` file."""
    monkeypatch.chdir(folder)

    def load(given: dict[str, str] | None = None, /, **variables: str) -> S:
        monkeypatch.setattr("os.environ", {**(given or {}), **variables})
        return cls.load()

    return load
