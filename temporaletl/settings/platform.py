"""Settings, read once at start-up from the environment and a `.env` file.

Secrets are `SecretStr`: they appear in no log, error or repr. Each source keeps its own settings
beside its connector.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
)

from temporaletl import names
from temporaletl.cores import number_of_processes
from temporaletl.errors import ConfigurationError
from temporaletl.messages import RunPolicy
from temporaletl.secrets import remember_secret
from temporaletl.settings.addresses import site_address
from temporaletl.settings.environment import Settings, variables_of

__all__ = [
    "EngineSettings",
    "Settings",
    "TemporalSettings",
    "WaitSettings",
    "WarehouseSettings",
    "WorkerSettings",
    "variables_of",
]

_DAY = 86_400


class TemporalSettings(Settings):
    """Temporal server, queues and retries. TLS and API key: see `temporaletl.temporal.connect`."""

    address: str | None = Field(None, validation_alias="TEMPORAL_ADDRESS")
    host: str | None = Field(None, validation_alias="TEMPORAL_HOST")
    port: PositiveInt = Field(7233, validation_alias="TEMPORAL_PORT")
    namespace: str = Field("default", validation_alias="TEMPORAL_NAMESPACE")
    queuer_queue: str = Field(
        names.QUEUER_TASK_QUEUE,
        validation_alias=AliasChoices("TEMPORAL_QUEUE", "TEMPORAL_TASK_QUEUE"),
    )
    worker_queue: str = Field(names.WORKER_TASK_QUEUE, validation_alias="TEMPORAL_ETL_QUEUE")
    max_concurrent_workflows: PositiveInt = Field(
        100, validation_alias="TEMPORAL_MAX_CONCURRENT_WORKFLOWS"
    )
    max_concurrent_activities: PositiveInt = Field(
        8, validation_alias="TEMPORAL_MAX_CONCURRENT_ACTIVITIES"
    )
    workflow_timeout_minutes: PositiveFloat | None = Field(
        None, validation_alias="TEMPORAL_WORKFLOW_TIMEOUT_MINUTES"
    )
    activity_timeout_minutes: PositiveFloat = Field(
        10, validation_alias="TEMPORAL_ACTIVITY_TIMEOUT_MINUTES"
    )
    activity_max_retries: PositiveInt = Field(20, validation_alias="TEMPORAL_ACTIVITY_MAX_RETRIES")
    initial_interval_seconds: PositiveFloat = Field(
        1, validation_alias="TEMPORAL_WORKFLOW_INITIAL_INTERVAL_SECONDS"
    )
    backoff_coefficient: float = Field(
        2, ge=1, validation_alias="TEMPORAL_WORKFLOW_BACKOFF_COEFFICIENT"
    )
    heartbeat_timeout_seconds: PositiveFloat = Field(
        20, validation_alias="ETL_HEARTBEAT_TIMEOUT_SECONDS"
    )

    enabled: bool = Field(
        default=True,
        validation_alias=AliasChoices("TEMPORAL_ENABLED", "ENABLE_TEMPORAL_FEATURES"),
        description="whether there is a Temporal; without one, the local engine runs everything",
    )

    reconcile_seconds: PositiveFloat = Field(
        30,
        validation_alias="ETL_RECONCILE_SECONDS",
        description="how often a queuer looks for runs whose workflows are lost",
    )

    build_id: str | None = Field(
        None,
        max_length=255,
        validation_alias="TEMPORAL_WORKER_BUILD_ID",
        description="the build that a service is, for deployments of several side by side",
    )
    deployment_name: str | None = Field(
        None,
        max_length=255,
        validation_alias="TEMPORAL_DEPLOYMENT_NAME",
        description="the worker deployment that a service's builds belong to",
    )

    ui_address: str | None = Field(
        None,
        validation_alias="TEMPORAL_UI_ADDRESS",
        description="where Temporal's own UI is, so that workflows can be linked to",
    )

    @field_validator("ui_address")
    @classmethod
    def _bare(cls, value: str | None) -> str | None:
        return value and site_address(value, example="https://temporal.example.com")

    @property
    def target(self) -> str:
        """`host:port`; the address wins over the host, which may carry its own port."""
        if self.address:
            return self.address
        host = self.host or "127.0.0.1"
        return host if ":" in host else f"{host}:{self.port}"

    def policy(self) -> RunPolicy:
        return RunPolicy(
            activity_timeout=timedelta(minutes=self.activity_timeout_minutes),
            heartbeat_timeout=timedelta(seconds=self.heartbeat_timeout_seconds),
            max_attempts=self.activity_max_retries,
            initial_interval=timedelta(seconds=self.initial_interval_seconds),
            backoff_coefficient=self.backoff_coefficient,
            job_timeout=(
                timedelta(minutes=self.workflow_timeout_minutes)
                if self.workflow_timeout_minutes
                else None
            ),
        )


class WarehouseSettings(Settings):
    """PostgreSQL server of the warehouse; `DATABASE_URL` wins over the single parts."""

    free_secrets = frozenset({"database_url", "password"})

    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    host: str | None = Field(
        None, validation_alias="WPE_DB_HOST", description="the warehouse's host or socket folder"
    )
    port: PositiveInt = Field(5432, validation_alias="WPE_DB_PORT")
    name: str = Field("postgres", validation_alias="WPE_DB_NAME")
    user: str = Field("postgres", validation_alias="WPE_DB_USER")
    password: SecretStr | None = Field(None, validation_alias="WPE_DB_PASSWORD")
    schema_name: str = Field("workplace", validation_alias="WPE_DB_SCHEMA", min_length=1)
    lock_timeout_seconds: float = Field(
        30,
        gt=0,
        le=_DAY,
        validation_alias="WPE_DB_LOCK_TIMEOUT_SECONDS",
        description="how long a transaction waits for a lock before it is tried again later",
    )
    statement_timeout_seconds: float = Field(
        600,
        gt=0,
        le=_DAY,
        validation_alias="WPE_DB_STATEMENT_TIMEOUT_SECONDS",
        description="how long one statement may take; those that change tables take their time",
    )
    idle_transaction_timeout_seconds: float = Field(
        30,
        gt=0,
        le=_DAY,
        validation_alias="WPE_DB_IDLE_TRANSACTION_TIMEOUT_SECONDS",
        description="after which the server ends a session that says nothing in a transaction",
    )
    network_timeout_seconds: float = Field(
        25,
        ge=2,
        le=_DAY,
        validation_alias="WPE_DB_NETWORK_TIMEOUT_SECONDS",
        description="after which a connection that is not acknowledged counts as broken",
    )
    omit_indexes: str = Field(
        "",
        validation_alias="WPE_DB_OMIT_INDEXES",
        description="indexes that tables shall not have, by name, separated by commas; `all`: none",
    )

    soft_delete: bool = Field(
        default=False,
        validation_alias="WPE_DB_SOFT_DELETE",
        description="whether events that the source deleted stay, with their deleted_at",
    )

    months_from_rows: int = Field(
        default=0,
        ge=0,
        validation_alias="WPE_DB_MONTHS_FROM_ROWS",
        description="from so many events on a source's are to be divided by month; 0: never",
    )
    keep_months: str = Field(
        "",
        validation_alias="WPE_DB_KEEP_MONTHS",
        description="how many whole months of a source's events are kept: jira=24,launchpad=36",
    )

    @field_validator("keep_months")
    @classmethod
    def _readable(cls, value: str) -> str:
        _months_kept(value)
        return value

    @property
    def months_kept(self) -> dict[str, int]:
        """How many whole months of events are kept, by source; of others all."""
        return _months_kept(self.keep_months)

    @property
    def omitted_indexes(self) -> frozenset[str]:
        """Names of the indexes that are switched off."""
        return frozenset(name for part in self.omit_indexes.split(",") if (name := part.strip()))

    @property
    def is_configured(self) -> bool:
        """Whether anything says where the warehouse is."""
        return self.database_url is not None or self.host is not None

    def conninfo(self) -> SecretStr:
        """The libpq connection string, password included.

        Raises:
            ConfigurationError: neither DATABASE_URL nor WPE_DB_HOST is set, or the URL is bad.
        """
        # Settings are read where no warehouse is, too.
        from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415

        if self.database_url is not None:
            try:
                parts = conninfo_to_dict(self.database_url.get_secret_value())
            except Exception:  # noqa: BLE001 - libpq's message would repeat the password
                raise ConfigurationError(
                    "DATABASE_URL is not a PostgreSQL URL "
                    "(postgresql://user:password@host:port/name)"
                ) from None
            for name in ("password", "sslpassword"):
                remember_secret(str(parts.get(name) or ""))
            if _is_misread(self.database_url.get_secret_value()):
                raise ConfigurationError(
                    "DATABASE_URL is read otherwise than it is meant: in the user's name and the "
                    "password, write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, % as %25"
                )
            return SecretStr(
                make_conninfo(**{k: str(v) for k, v in parts.items() if v is not None})
            )
        if self.host is None:
            raise ConfigurationError(
                "no warehouse is configured: set WPE_DB_HOST (and WPE_DB_PORT, WPE_DB_NAME, "
                "WPE_DB_USER, WPE_DB_PASSWORD) or DATABASE_URL; `etl up` starts one"
            )
        password = self.password.get_secret_value() if self.password else None
        return SecretStr(
            make_conninfo(
                host=self.host, port=self.port, dbname=self.name, user=self.user, password=password
            )
        )


def _months_kept(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        source, _, months = map(str.strip, part.partition("="))
        if not source or source in found or not months.isdecimal() or int(months) < 1:
            raise ValueError(
                f"{part!r} is not a source with a number of months, once: jira=24,launchpad=36"
            )
        found[source] = int(months)
    return found


class EngineSettings(Settings):
    """The local engine, which runs batches without Temporal."""

    jobs_at_once: int = Field(
        4,
        ge=1,
        le=1_000,
        validation_alias="ETL_ENGINE_JOBS_AT_ONCE",
        description="jobs of a run that the local engine has in progress at once",
    )
    lease_seconds: float = Field(
        20,
        ge=1,
        le=_DAY,
        validation_alias="ETL_ENGINE_LEASE_SECONDS",
        description="after which silence of its process a run is taken up by another",
    )


class LedgerSettings(Settings):
    """How long the ledger keeps what is one row for each page and job; 0: for ever."""

    pages_keep_days: int = Field(
        30,
        ge=0,
        le=36_500,
        validation_alias="ETL_LEDGER_PAGES_KEEP_DAYS",
        description="after which the pages of a run that has ended are summarised; 0: never",
    )
    jobs_keep_days: int = Field(
        90,
        ge=0,
        le=36_500,
        validation_alias="ETL_LEDGER_JOBS_KEEP_DAYS",
        description="after which its jobs are, and pages that are still there; 0: never",
    )


class WaitSettings(Settings):
    """The longest cool-down of a source that is waited out."""

    longest_wait_minutes: PositiveFloat = Field(
        60,
        le=7 * 24 * 60,
        validation_alias="ETL_LONGEST_WAIT_MINUTES",
        description="the longest cool-down that is waited out; then the source is tried again",
    )


def _is_misread(url: str) -> bool:
    """Whether libpq takes a part of the password for a host, a port or a name."""
    scheme, found, rest = url.partition("://")
    if not found or "=" in scheme:
        return False
    authority, _, path = rest.partition("/")
    # libpq ends the password at the first @, and looks for none behind a slash.
    behind = (authority.partition("@")[2].partition("?")[0], path.partition("?")[0])
    return any("@" in part for part in behind)


class WorkerSettings(Settings):
    """Segment and page sizes of the worker, and its thresholds."""

    segment_seconds: PositiveFloat = Field(
        15, validation_alias="ETL_SEGMENT_SECONDS", description="the longest one segment goes on"
    )
    rows_per_page: PositiveInt = Field(
        20_000,
        validation_alias="ETL_ROWS_PER_PAGE",
        description="extracted pages are loaded together up to about so many rows",
    )
    reject_threshold: float = Field(
        0.1,
        ge=0,
        le=1,
        validation_alias="ETL_REJECT_THRESHOLD",
        description="the share of a job's records that may be rejected before the job fails",
    )
    conflict_threshold: float = Field(
        0.01,
        ge=0,
        le=1,
        validation_alias="ETL_CONFLICT_THRESHOLD",
        description="the share of a job's rows that may have another one's key, and differ from it",
    )
    reject_payload_bytes: PositiveInt = Field(
        1 << 20,
        le=64 << 20,
        validation_alias="ETL_REJECT_PAYLOAD_BYTES",
        description="how much is kept of a record that was rejected; of a larger one its beginning",
    )
    deletion_scan_minutes: PositiveFloat = Field(
        10,
        validation_alias="ETL_DELETION_SCAN_MINUTES",
        description="how long a scan for deleted items goes on in one run; the next one goes on",
    )
    graceful_shutdown_seconds: PositiveFloat = Field(
        60, validation_alias="ETL_GRACEFUL_SHUTDOWN_SECONDS"
    )
    processes: Annotated[int, BeforeValidator(number_of_processes)] = Field(
        1,
        validation_alias="ETL_WORKER_PROCESSES",
        description="worker processes, or `auto`: one for each core",
    )
