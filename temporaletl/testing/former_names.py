"""Former names of the suite's classes and methods: they work, and warn with the current name."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

#: Classes that `temporaletl.testing` exported under another name.
CLASSES = {"FakeRig": "FakeSourceFixture", "Rig": "SourceFixture"}
#: Methods of a source fixture.
METHODS = {
    "calm": "clear_faults",
    "mend": "restore",
    "spoil": "corrupt",
    "strike": "inject_fault",
    "strike_at": "inject_fault_at",
    "truth": "expected",
}


def adopt_former_names(fixture: type) -> None:
    """Give a fixture class the methods it defines under both of their names.

    Aliases belong to the class that defines the method, so `super()` under a former name reaches
    the base class as it did before the change.
    """
    for former, current in METHODS.items():
        own = vars(fixture)
        if former in own and current not in own:
            # Behind this function, `__init_subclass__` and ABCMeta is the class statement.
            warn_of(f"{fixture.__name__}.{former}", current, stacklevel=5)
            setattr(fixture, current, own[former])
        elif current in own and former not in own:
            setattr(fixture, former, alias_of(own[current], former))


def adopt_former_attribute(suite: type) -> None:
    """Give a suite whose source fixture is its `rig` the attribute `fixture`."""
    own = vars(suite)
    if "rig" in own and "fixture" not in own:
        # Behind this function and `__init_subclass__` is the class statement.
        warn_of(f"{suite.__name__}.rig", "fixture", stacklevel=4)
        suite.fixture = own["rig"]  # type: ignore[attr-defined]


def warn_of(former: str, current: str, *, stacklevel: int = 3) -> None:
    """Warn that a name has another one now; the warning points at the caller's caller."""
    warnings.warn(f"{former} is now called {current}", DeprecationWarning, stacklevel=stacklevel)


def alias_of(method: Callable[..., Any], former: str) -> Callable[..., Any]:
    """Return the method under a former name: it warns, and does the same."""

    @wraps(method)
    def alias(*args: Any, **kwargs: Any) -> Any:
        warn_of(former, method.__name__)
        return method(*args, **kwargs)

    return alias
