"""A source of notes with any of the defects that the standard suite looks for."""

import itertools
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import structlog
from pydantic import Field, PositiveInt, SecretStr

from temporaletl import (
    CredentialsError,
    ETLInput,
    Event,
    Page,
    PageRequest,
    Plan,
    Query,
    RateLimitedError,
    Reject,
    SourceProtocolError,
    SourceUnavailableError,
    TransformContext,
    Window,
    extract_method,
    params_method,
    query_type,
    transform_inputs_method,
    transform_method,
)
from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import SourceSettings
from temporaletl.rows import CompleteSet
from temporaletl.testing import SourceFixture
from temporaletl.testing.fakes import ENDLESS

_TOKEN = "a-token-nobody-shall-see"
_FIRST = datetime(2025, 1, 1, tzinfo=UTC)
_numbers = itertools.count()
#: A note in the middle.
_POISONED = 7
log = structlog.get_logger("tests.faulty_source")


@dataclass
class Notes:
    """The served notes, and the defect of the source that reads them."""

    times: dict[int, datetime | None]
    defect: str = ""
    breaks: bool = False
    broke: int = 0
    asked: int = 0
    #: The injected fault, and how often it still occurs.
    trouble: str = ""
    left: int = 0
    poisoned: bool = False
    unseen: datetime | None = None


served = Notes({})


class NotesSettings(SourceSettings):
    token: SecretStr = Field(validation_alias="NOTES_TOKEN", description="the token")
    page_size: PositiveInt = Field(10, validation_alias="NOTES_PAGE_SIZE")


connection_settings("notes", NotesSettings)


def _settings() -> NotesSettings:
    if served.defect == "settings":
        return NotesSettings.model_construct(token=SecretStr(_TOKEN))
    return NotesSettings.load()


@params_method("notes", streams=("all",), settings=_settings, overlap=timedelta(0))
def describe(plan: Plan) -> Window:
    return plan.windows["all"]


@transform_inputs_method("notes")
def expand(plan: Plan, window: Window) -> Iterator[ETLInput]:
    params: dict[str, Any] = {}
    if served.defect == "job ids":
        params["salt"] = next(_numbers)
    if served.defect == "secret in jobs":
        params["salt"] = _TOKEN
    if served.defect == "empty window" or window.start is None or window.start != window.end:
        yield plan.job("all", window, **params)


@query_type("notes")
class NotesQuery(Query):
    salt: float | str = 0

    @classmethod
    def from_dict(cls, params: Mapping[str, Any]) -> "NotesQuery":
        if served.defect == "parameters":
            return cls.model_construct(**params)
        return super().from_dict(params)


def _is_closed() -> bool:
    """Suffer the injected fault; return whether it is taken for the end of the list."""
    served.left -= 1
    served.broke += 1
    if served.defect == "absence":
        return True
    if served.trouble in ENDLESS:
        delay = timedelta(days=9) if served.defect == "endless" else timedelta(milliseconds=10)
        raise RateLimitedError("the notes are closed", delay=delay)
    raise SourceUnavailableError("the notes are closed")


def _after_thoughts(records: list[Any]) -> list[Any]:
    """Poison a note in place; return what follows the notes of a page."""
    for record in records:
        if served.poisoned and record["id"] == _POISONED:
            if served.defect == "poison":
                raise SourceProtocolError("one of the notes is no note")
            record["at"] = None
    if served.unseen is not None and served.defect == "sees less":
        return [CompleteSet(str(_POISONED), exact=True)]
    return []


@extract_method("notes-all")
async def extract(request: PageRequest[NotesQuery]) -> AsyncGenerator[Page]:
    settings = NotesSettings.load()
    if settings.token.get_secret_value() != _TOKEN:
        kind = SourceUnavailableError if served.defect == "credentials" else CredentialsError
        raise kind("notes refuse us; check NOTES_TOKEN")
    if served.defect == "secret in logs":
        log.info("notes_asked", token=settings.token.get_secret_value())
    start = request.job.window.start
    since = (start or _FIRST) + timedelta(seconds=served.defect == "window start")
    wanted = sorted(n for n, at in served.times.items() if at is None or at >= since)
    served.asked += 1
    position = int(str(request.cursor or 0))
    if served.left and _is_closed():
        return
    while rest := wanted[position:]:
        if served.breaks and served.asked % 3 and position:
            served.broke += 1
            if served.defect == "faults":
                return
            raise SourceUnavailableError("the notes are in disorder")
        page = rest[: settings.page_size]
        position += len(page)
        records: list[Any] = [
            {"id": n, "at": None if (at := served.times[n]) is None else at.isoformat()}
            | {"place": place, "read": str(served.asked)}
            for place, n in enumerate(page)
        ]
        records += _after_thoughts(records)
        ahead = 1 if served.defect == "cursor" else 0
        late = timedelta(days=served.defect == "page time")
        yield Page(records=records, cursor=position + ahead, extracted_at=datetime.now(UTC) + late)


@transform_method("notes")
def transform(
    record: Any, _context: TransformContext[NotesQuery]
) -> Iterator[Event | Reject | CompleteSet]:
    if isinstance(record, CompleteSet):
        yield record
        return
    if record["at"] is None and served.defect == "words":
        raise KeyError("at")
    if record["at"] is None and served.defect == "drops":
        return
    if record["at"] is None:
        number = str(record["id"])
        yield Reject(stage="transform", reason="it has no time (at)", key=number, payload=record)
        return
    moment = datetime.fromisoformat(record["at"])
    yield Event(
        event_id=str(record["place"] if served.defect == "positions" else record["id"]),
        event_type="noted" if served.defect == "names" else "note_written",
        event_time_utc=moment.replace(tzinfo=None) if served.defect == "naive" else moment,
        timezone="Mars/Olympus" if served.defect == "zone" else "UTC",
        event_properties={"read": record["read"]} if served.defect == "repeat" else {},
    )


class NotesFixture(SourceFixture):
    source = "notes"
    page_size_setting: ClassVar[str | None] = "NOTES_PAGE_SIZE"
    page_sizes = (4, 10)
    secrets: ClassVar[Sequence[str]] = (_TOKEN,)
    wrong_credentials: ClassVar[Mapping[str, str]] = {"NOTES_TOKEN": "another-token"}
    faults: ClassVar[Collection[str]] = ("disorder",)
    defect: ClassVar[str] = ""

    def serve(self) -> Iterator[Mapping[str, str]]:
        served.__init__(  # type: ignore[misc] # anew for each check
            {n: _FIRST + timedelta(hours=n // 3) for n in range(1, 31)}, self.defect
        )
        yield {"NOTES_TOKEN": _TOKEN, "NOTES_PAGE_SIZE": "10"}

    def expected(self) -> Mapping[str, set[str]]:
        return {"all": {str(number) for number in served.times}}

    def change(self, at: datetime) -> None:
        served.times[31] = at
        if self.defect == "changes":
            served.times[32] = _FIRST

    def corrupt(self) -> None:
        served.times[7] = None

    def inject_fault(self, fault: str) -> None:
        kind, *how = fault.split(":")
        if kind == "disorder":
            served.breaks = True
            return
        served.trouble, served.left = kind, int(how[1]) if len(how) > 1 else 1_000

    def clear_faults(self) -> int:
        served.breaks = False
        served.left = 0
        return served.broke

    def endpoints(self) -> Collection[str]:
        return ("notes",)

    def inject_fault_at(self, endpoint: str, fault: str) -> None:
        del endpoint
        self.inject_fault(fault)

    def poison(self, value: bytes) -> None:
        del value
        served.poisoned = True

    def break_item(self) -> None:
        served.poisoned = True

    def see_less(self) -> None:
        served.unseen = served.times.pop(_POISONED)

    def restore(self) -> None:
        served.poisoned = False
        if served.unseen is not None:
            served.times[_POISONED], served.unseen = served.unseen, None
