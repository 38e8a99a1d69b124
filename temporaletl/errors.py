"""The error tree, classed by what recovers from each error.

    ETLError
    ├── RetryableError              the same call may succeed later
    │   ├── SourceUnavailableError  the source did not answer, or answered 5xx
    │   ├── RateLimitedError        the source refused a call for its rate limit
    │   │   └── ExcessiveWaitError  ...longer than is waited for: tried once more after that
    │   ├── NotReadyError           what was requested is not ready yet
    │   ├── TemporalUnavailableError    no Temporal server answers
    │   └── WarehouseUnavailableError   waited out, however long it takes
    │       └── WarehouseOverloadedError  ...but not a statement that takes too much
    ├── PermanentError              a person must change something first
    │   ├── ConfigurationError      a setting or an argument
    │   │   ├── UnknownSourceError
    │   │   ├── DuplicateStrategyError
    │   │   └── StrategyImportError
    │   ├── NotFoundError           nothing has the requested name
    │   ├── ConflictError           the present state does not allow it: it has ended, or exists
    │   ├── CredentialsError        refused by the source
    │   │   └── WarehouseCredentialsError   ...or by the warehouse
    │   ├── WarehouseClosedError    used after this program closed it: a fault in the program
    │   ├── SchemaConflictError     a table cannot hold what a row class declares
    │   ├── SourceProtocolError     the source breaks its own API's promises
    │   ├── TooManyRejectsError
    │   └── TooManyConflictsError   rows share keys that shall be theirs alone
    └── RecordError                 this one record becomes a reject; the rest goes on

`temporaletl.temporal.interceptor` is the one place that translates them to Temporal.
"""

from datetime import timedelta
from typing import ClassVar

from temporaletl.bound_connection import DEFAULT, connection_in_use


class ETLError(Exception):
    """Base of everything the platform raises on purpose."""


class RetryableError(ETLError):
    """The same call may succeed later.

    `delay` is the cool-down that the other side requested, None where it did not.

        try:
            raise SourceUnavailableError("shop: HTTP 503", delay=timedelta(seconds=30))
        except RetryableError as error:
            assert error.delay == timedelta(seconds=30)
    """

    def __init__(self, message: str, *, delay: timedelta | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class SourceUnavailableError(RetryableError):
    """The source did not answer, broke off, or answered with a server error.

    The job goes on from its last committed page once the source answers again.

        def check(status: int) -> None:
            if status >= 500:
                raise SourceUnavailableError(f"shop: HTTP {status}")
    """


class RateLimitedError(RetryableError):
    """The source refused a call because of its rate limit.

    With a `delay`, the source is blocked for all workers for that long.

        def check(status: int, retry_after_seconds: int) -> None:
            if status == 429:
                raise RateLimitedError(
                    "shop: too many requests", delay=timedelta(seconds=retry_after_seconds)
                )
    """


class ExcessiveWaitError(RateLimitedError):
    """The source requests a longer cool-down than ETL_LONGEST_WAIT_MINUTES.

    `delay` is that longest wait. Where the source says so again after it, the job fails.
    """


class NotReadyError(RetryableError):
    """The result that one job requested is not ready yet; other jobs are not blocked.

    `delay` is how long the job waits before it looks again.

        def check(export: dict[str, str]) -> None:
            if export["state"] == "running":
                raise NotReadyError("shop: the export is being made", delay=timedelta(seconds=20))
    """


class TemporalUnavailableError(RetryableError):
    """No Temporal server answers at the address that is configured, or it is overloaded."""


class WarehouseUnavailableError(RetryableError):
    """PostgreSQL did not answer or broke off; nothing of the open transaction is kept."""


class WarehouseOverloadedError(WarehouseUnavailableError):
    """PostgreSQL gave up a statement that took too long, or too much memory."""


class PermanentError(ETLError):
    """Repeating the call cannot help: a person must change something first.

    The job fails at once, with the message; the pages loaded before stay.

        try:
            raise CredentialsError("shop: the token of SHOP_TOKEN was refused")
        except PermanentError as error:
            assert "SHOP_TOKEN" in str(error)
    """


class ConfigurationError(PermanentError):
    """A setting or an argument is missing or wrong; the message names it and its use.

    No more requests are sent to the source.

        def check(url: str) -> None:
            if not url.startswith("https:"):
                raise ConfigurationError(f"SHOP_URL, where the shop answers, is no URL: {url!r}")
    """


class SettingsError(ConfigurationError):
    """A variable of the environment is missing or wrong; the message names it and its use.

    `variables` are all that are concerned; None where a fault is not that of single ones.
    """

    def __init__(self, message: str, *, variables: frozenset[str] | None = None) -> None:
        super().__init__(message)
        self.variables = variables


class UnknownSourceError(ConfigurationError):
    """No strategy is registered under that name; the message lists the known names."""


class DuplicateStrategyError(ConfigurationError):
    """Two strategies claim one name; the message gives both places."""


class StrategyImportError(ConfigurationError):
    """A module of a source cannot be imported; the message gives the module and the cause."""


class NotFoundError(PermanentError):
    """Nothing has the requested name: a run, a job, a schedule."""


class ConflictError(PermanentError):
    """The request does not fit the present state: a run that has ended, for one."""


class TemporalDisabledError(ConflictError):
    """Something that only Temporal does was requested where it is off (TEMPORAL_ENABLED=false)."""


class CredentialsError(PermanentError):
    """Credentials were refused, or lack a permission.

    The message names the settings that hold them, never their values, and the connection that
    these are of, where it is a named one.

        def check(status: int) -> None:
            if status in (401, 403):
                raise CredentialsError("shop: the token of SHOP_TOKEN may not read orders")
    """

    #: Whether they are a source's, and so those of the connection in use.
    of_source: ClassVar[bool] = True

    def __init__(self, message: str) -> None:
        connection = connection_in_use() if self.of_source else DEFAULT
        named = f" (connection {connection!r})"
        # An error that is told again has it already.
        told = connection == DEFAULT or named in message
        super().__init__(message if told else message + named)


class WarehouseCredentialsError(CredentialsError):
    """The warehouse refused the platform's user, or it lacks a privilege."""

    of_source = False


class WarehouseClosedError(PermanentError):
    """A Warehouse was used that this program has closed, or never opened: no outage."""


class SchemaConflictError(PermanentError):
    """A warehouse table cannot hold what a row class declares; nothing was written."""


class SourceProtocolError(PermanentError):
    """The source answered something its own API rules out.

    To go on would be to load something wrong, or to go on for ever.

        def check(token: str, before: str) -> None:
            if token == before:
                raise SourceProtocolError(f"shop: the page token {token!r} came twice")
    """


class TooManyRejectsError(PermanentError):
    """More of a job's records were rejected than its threshold allows."""


class TooManyConflictsError(PermanentError):
    """More of a job's rows than its threshold allows share a key, and differ."""


class RecordError(ETLError):
    """One record cannot become rows; it is kept as a reject and the job goes on.

    The message becomes the reject's reason, for a person to read.

        def placed_at(order: dict[str, str]) -> datetime:
            try:
                return datetime.fromisoformat(order["placed_at"])
            except (KeyError, ValueError) as error:
                raise RecordError(f"placed_at: {error}") from None
    """
