"""The standard suite: what every source must pass, without a line of test code of its own.

    class TestShop(SourceSuite):
        fixture = ShopFixture

The source fixture serves the source, changes its data and injects faults. Only the suite itself
imports pytest, and no part of the platform imports this package: a fake runs alone without either.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from temporaletl.testing import former_names

if TYPE_CHECKING:
    from temporaletl.testing.source_fixture import FakeSourceFixture, SourceFixture
    from temporaletl.testing.suite import SourceSuite, suite_for

    FakeRig, Rig = FakeSourceFixture, SourceFixture

__all__ = ["FakeSourceFixture", "SourceFixture", "SourceSuite", "suite_for"]

_SUITE = ("SourceSuite", "suite_for")
_ASSERTING = (
    "connection_checks",
    "fault_checks",
    "item_checks",
    "planning_checks",
    "snapshot",
    "suite",
    "tables",
)

if "pytest" in sys.modules:
    # Before any of them is imported: so that assertions explain themselves in any project.
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{name}" for name in _ASSERTING))


def __getattr__(name: str) -> object:
    """Import an exported name on first use."""
    if name in former_names.CLASSES:
        current = former_names.CLASSES[name]
        former_names.warn_of(f"{__name__}.{name}", current)
        name = current
    if name in _SUITE:
        return getattr(import_module("temporaletl.testing.suite"), name)
    if name in __all__:
        return getattr(import_module("temporaletl.testing.source_fixture"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
