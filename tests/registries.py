"""What sources registered, taken away for one test: no outcome hangs on what others imported."""

import pytest

from temporaletl import accounts, deletions, rereading, strategies
from temporaletl.registry import Registry

REGISTRIES = [
    value
    for module in (accounts, deletions, rereading, strategies)
    for value in vars(module).values()
    if isinstance(value, Registry)
]


def forget_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends nothing is registered but what it registers itself."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", {})
