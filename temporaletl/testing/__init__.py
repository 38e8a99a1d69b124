"""The standard suite: what every source must pass, without a line of test code of its own.

    class TestShop(SourceSuite):
        rig = ShopRig

The rig says how the source is served, and how its data is changed. Only the suite itself imports
pytest, and no part of the platform imports this package: a fake runs alone without either.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporaletl.testing.rig import FakeRig, Rig
    from temporaletl.testing.suite import SourceSuite, suite_for

__all__ = ["FakeRig", "Rig", "SourceSuite", "suite_for"]

_SUITE = ("SourceSuite", "suite_for")
_ASSERTING = ("fault_checks", "suite", "tables")

if "pytest" in sys.modules:
    # Before any of them is imported: so that assertions explain themselves in any project.
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{name}" for name in _ASSERTING))


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for."""
    if name in _SUITE:
        return getattr(import_module("temporaletl.testing.suite"), name)
    if name in __all__:
        return getattr(import_module("temporaletl.testing.rig"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
