"""The API for authors of sources, and for programs that run them."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporaletl.accounts import AccountView, account_view
    from temporaletl.budget import RateBudget, acquire
    from temporaletl.deletions import (
        DeletionScan,
        FindDeleted,
        Items,
        deletion_scan,
        scan_inputs_method,
    )
    from temporaletl.engine.library import run, run_async
    from temporaletl.errors import (
        ConfigurationError,
        CredentialsError,
        NotReadyError,
        PermanentError,
        RateLimitedError,
        RecordError,
        RetryableError,
        SourceProtocolError,
        SourceUnavailableError,
    )
    from temporaletl.extraction import NothingStored, Page, PageRequest, StoredEvents
    from temporaletl.messages import ETLInput, Window
    from temporaletl.query import Query
    from temporaletl.rereading import Reread, Unread, reread_method
    from temporaletl.rows import CompleteSet, Event, Identity, Json, LocalTime, Reject, Row
    from temporaletl.strategies import (
        Plan,
        extract_method,
        identities_method,
        params_method,
        query_type,
        rate_budget,
        transform_inputs_method,
        transform_method,
    )
    from temporaletl.transformation import TransformContext

__all__ = [
    "AccountView",
    "CompleteSet",
    "ConfigurationError",
    "CredentialsError",
    "DeletionScan",
    "ETLInput",
    "Event",
    "FindDeleted",
    "Identity",
    "Items",
    "Json",
    "LocalTime",
    "NotReadyError",
    "NothingStored",
    "Page",
    "PageRequest",
    "PermanentError",
    "Plan",
    "Query",
    "RateBudget",
    "RateLimitedError",
    "RecordError",
    "Reject",
    "Reread",
    "RetryableError",
    "Row",
    "SourceProtocolError",
    "SourceUnavailableError",
    "StoredEvents",
    "TransformContext",
    "Unread",
    "Window",
    "account_view",
    "acquire",
    "deletion_scan",
    "extract_method",
    "identities_method",
    "params_method",
    "query_type",
    "rate_budget",
    "reread_method",
    "run",
    "run_async",
    "scan_inputs_method",
    "transform_inputs_method",
    "transform_method",
]


_MODULES = (
    "accounts",
    "budget",
    "deletions",
    "errors",
    "extraction",
    "messages",
    "query",
    "rereading",
    "rows",
    "strategies",
    "transformation",
    "engine.library",
)


#: Deprecated names, and the names that replace them.
_RENAMED = {"Whole": "CompleteSet", "take_permit": "acquire"}


def __getattr__(name: str) -> object:
    """Import a name on first use: `etl --help` needs none, and shall be quick.

    A deprecated name gives the object of the new name, with a DeprecationWarning.
    """
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(
            f"temporaletl.{name} is now temporaletl.{new}", DeprecationWarning, stacklevel=2
        )
        return globals().get(new) or __getattr__(new)
    if name in __all__:
        for module in _MODULES:
            if (found := vars(import_module(f"temporaletl.{module}")).get(name)) is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """All names, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})
