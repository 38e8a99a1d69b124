"""Row classes: what a transform yields and a table holds.

A row class declares its table, its key and, by its annotations, its columns:

    ============================ ==================
    annotation                   column type
    ============================ ==================
    str                          text
    int                          bigint
    float                        double precision
    bool                         boolean
    decimal.Decimal              numeric
    datetime.datetime            timestamptz
    LocalTime                    timestamp
    datetime.date                date
    Json                         jsonb
    X | None                     the same, nullable
    ============================ ==================

The platform adds what every table carries beside them: `connection`, which is part of its key,
`version` and `specific_version` of the query type, the lineage (`job_id`, `workflow_id`, `run_id`,
`extracted_at`, `loaded_at`, `updated_at`) and `row_hash`.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

#: Any value that JSON can hold; stored as jsonb.
Json = Annotated[Any, "jsonb"]
#: A datetime without a zone: the wall clock where the event happened.
LocalTime = Annotated[datetime, "timestamp"]


class Index(msgspec.Struct, frozen=True):
    """Index of a row class's table, beside its key: `brin` suits columns that grow with the table.

    `name` is what the setting WPE_DB_OMIT_INDEXES switches it off by. With `present` it holds only
    the rows whose first column is not null.

        orders_by_clerk = Index("clerk", ("clerk", "placed_at"), present=True)
    """

    name: str
    columns: tuple[str, ...]
    method: Literal["btree", "brin"] = "btree"
    present: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the row classes; instances are immutable and built a million at a time.

    class ShopBranch(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "shop_branches"
        key: ClassVar[tuple[str, ...]] = ("branch_id",)

        branch_id: int
        opened_at: datetime | None = None
        opens: LocalTime | None = None
        address: Json = None

    branch = ShopBranch(branch_id=7, address={"city": "Oslo"})
    """

    #: Table in the warehouse schema.
    table: ClassVar[str]
    #: Columns that identify a row of one connection; they are never null.
    key: ClassVar[tuple[str, ...]]
    #: Other names, in this table, for columns of the lineage.
    lineage: ClassVar[Mapping[str, str]] = {}
    #: Comment of the table in the warehouse, and those of its columns by their names.
    comment: ClassVar[str] = ""
    comments: ClassVar[Mapping[str, str]] = {}
    #: All values that a column can have, where they are known; null is not among them.
    known_values: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: By column, the table whose key's last column it names, in the same connection.
    refers_to: ClassVar[Mapping[str, str]] = {}
    #: Indexes beside the key, and that on `updated_at` which every table has.
    indexes: ClassVar[tuple[Index, ...]] = ()


class Event(Row, frozen=True, kw_only=True, gc=False):
    """Something that happened to an item, and the person's part in it.

    `person` is the source's own id of the person; `employee_id` is the employee, once known.
    `event_id` derives from the source's own ids, is stable, and is unique within the source.
    `timezone` is the IANA name of the zone in which the person saw it happen; the loader
    derives from it `event_time` (the local wall clock) and `week` (the Monday of its week),
    and stamps `source_kind_id` and, as on rows of every class, `connection`: ids need be unique
    within one connection only.

        paid = Event(
            event_id="order:7:paid",
            event_type="order_paid",
            event_time_utc=datetime(2024, 5, 1, 12, tzinfo=UTC),
            parent_item_id="A-7",
            relation_type="clerk",
            person="clerk-7",
            employee_id="E7",
            timezone="Europe/Berlin",
            metrics={"total": 12.5},
        )
    """

    table: ClassVar[str] = "events"
    key: ClassVar[tuple[str, ...]] = ("source_kind_id", "event_id")
    indexes: ClassVar[tuple[Index, ...]] = (
        Index("item", ("parent_item_id", "event_time_utc"), present=True),
        Index("person", ("person", "event_time_utc"), present=True),
        Index("employee", ("employee_id", "event_time_utc"), present=True),
        Index("time", ("event_time_utc",)),
    )
    comment: ClassVar[str] = (
        "What happened, to what, by whom. List-partitioned by source: the partitions are "
        "jira_events, launchpad_events, salesforce_events, trino_events, and one for each "
        "further source."
    )
    comments: ClassVar[Mapping[str, str]] = {
        "source_kind_id": "the source",
        "event_id": (
            "the event, unique within its source and connection; derived from the source's own ids"
        ),
        "parent_item_id": (
            "the item it happened to, by the name people use (PROJ-12, a bug's number)"
        ),
        "event_type": "<noun>_<past verb>, such as status_changed",
        "relation_type": "the person's part in it, such as author",
        "person": "the person, by the source's own id; null where the event has none",
        "employee_id": "the employee that the person is; null while that is unknown",
        "event_time_utc": "when it happened, in UTC",
        "week": "Monday of the week in which it happened, in local time",
        "timezone": "IANA time zone in which the person saw it happen",
        "event_time": "when it happened, in that zone",
        "event_properties": (
            "further facts about the event; of issue_created and other …_created, the item as "
            "it was last loaded: its status is today's, not the first"
        ),
        "relation_properties": "further facts about the person's part",
        "metrics": "numbers",
    }

    event_id: str
    event_type: str
    event_time_utc: datetime
    parent_item_id: str | None = None
    relation_type: str | None = None
    person: str | None = None
    employee_id: str | None = None
    timezone: str = "UTC"
    event_properties: Json = msgspec.field(default_factory=dict)
    relation_properties: Json = msgspec.field(default_factory=dict)
    metrics: Json = msgspec.field(default_factory=dict)


class TemporalWorkflow(Row, frozen=True, kw_only=True, gc=False):
    """One run of a workflow as Temporal's visibility store lists it.

    Times ending in `_unix` are seconds since 1970 UTC. `status` is Temporal's own word; DELETED
    where it was running when it was last seen, and Temporal has it no more.
    """

    table: ClassVar[str] = "temporal_workflows"
    key: ClassVar[tuple[str, ...]] = ("namespace", "workflow_id", "run_id")
    comment: ClassVar[str] = "One row for each workflow execution that the source temporal lists."
    comments: ClassVar[Mapping[str, str]] = {
        "namespace": "namespace",
        "workflow_id": "workflow id",
        "run_id": "run id",
        "workflow_type": "workflow type",
        "task_queue": "task queue",
        "start_time": "start",
        "close_time": "end; null while it runs",
        "start_time_unix": "start, in seconds since 1970 UTC",
        "close_time_unix": "end, likewise",
        "status": (
            "RUNNING, PAUSED, COMPLETED, FAILED, CANCELED, TERMINATED, CONTINUED_AS_NEW, "
            "TIMED_OUT; DELETED for one that was running and no longer exists"
        ),
        "history_length": "number of events in its history",
        "search_attributes": "search attributes",
        "memo": "memo",
        "raw": "the execution as Temporal lists it",
    }
    known_values: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "status": (
            "RUNNING",
            "PAUSED",
            "COMPLETED",
            "FAILED",
            "CANCELED",
            "TERMINATED",
            "CONTINUED_AS_NEW",
            "TIMED_OUT",
            "DELETED",
        )
    }

    namespace: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    start_time: datetime
    close_time: datetime | None = None
    start_time_unix: float
    close_time_unix: float | None = None
    status: str
    history_length: int
    search_attributes: Json = msgspec.field(default_factory=dict)
    memo: Json = msgspec.field(default_factory=dict)
    raw: Json = msgspec.field(default_factory=dict)


class Identity(Row, frozen=True, kw_only=True, gc=False):
    """One person of one source, by the id that the source's records carry.

    `employee_id` is set where the source knows it. Elsewhere the platform finds it by `email`,
    which it compares without regard to case with the identities that have both.

        ann = Identity(source_kind_id="shop", person="clerk-7", email="Ann@Example.com")
    """

    table: ClassVar[str] = "etl_identities"
    key: ClassVar[tuple[str, ...]] = ("source_kind_id", "person")
    comment: ClassVar[str] = "People of each source, and the employees they are."
    comments: ClassVar[Mapping[str, str]] = {
        "source_kind_id": "the source",
        "person": "the id that the source's records carry",
        "employee_id": "the employee, where known",
        "email": "e-mail address",
        "name": "name",
        "timezone": "IANA time zone",
    }

    source_kind_id: str
    person: str
    employee_id: str | None = None
    email: str | None = None
    name: str | None = None
    timezone: str | None = None


class CompleteSet(msgspec.Struct, frozen=True):
    """The complete set of events under `prefix`: those stored that the page lacks are deleted.

    A transform yields it beside a record's events, only where it was given all of them. Stored
    events whose ids begin with the prefix, and that are not among the page's rows, are deleted
    unless they are newer. As a record of a page it is a tombstone: the set is empty. With `exact`
    the set is the one event whose id is `prefix`.

        def events(
            order: dict[str, str], context: TransformContext[ShopQuery]
        ) -> Iterator[Event | CompleteSet]:
            ...  # an event for each line of the order, and then:
            yield CompleteSet(f"order:{order['id']}:")

        assert CompleteSet("order:7:").covers("order:7:line:1")
        assert not CompleteSet("order:7:").covers("order:70:line:1")

    Raises:
        ValueError: the prefix is empty.
    """

    prefix: str
    exact: bool = False

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ValueError("an empty prefix would cover every event of the source")

    def covers(self, event_id: str) -> bool:
        """Whether that event belongs to the set."""
        return event_id == self.prefix if self.exact else event_id.startswith(self.prefix)


Finding = Literal["listed", "missing", "present", "gone", "deleted", "kept"]


class ScanItems(msgspec.Struct, frozen=True):
    """Items of a deletion scan that have one finding; a record of its pages.

    Stored with the page's cursor, for the scan's next steps: see `temporaletl.deletions`.
    """

    ids: tuple[str, ...]
    finding: Finding


#: What stands for a character that PostgreSQL cannot store.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable_text(text: str) -> str:
    """Replace by U+FFFD what PostgreSQL cannot store: NUL and lone surrogates."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def person_key(person: str) -> str:
    """Lookup key of a person: the id as it is, an e-mail address in lower case."""
    return person.lower() if "@" in person else person


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not become rows, kept whole with the reason in words.

    `payload` is anything msgspec can encode as JSON, or the record's undecoded bytes.

        reject = Reject(stage="extract", reason="line 3 cannot be read", key="A-7", payload=b"{")
    """

    stage: str  # extract, transform or load
    reason: str
    key: str | None = None  # the name a person knows the record by
    payload: Any = None
