"""An export: the feed of everything that changed, in the vendor's own order.

A token stands for a place in the feed. Nothing is skipped as long as the tokens are followed, from
one job to the next as well: so the last one is kept even though nothing follows it yet.

An answer that would hold a record that cannot be rendered fails, and what it holds besides, and its
token, cannot be had of the feed. Then the list is walked in its place, from the date where the job
begins, or where the feed was last begun anew: whatever the feed still had to tell was modified
since, in whatever order it tells it. The walk gets around the record, and the feed goes on by date
behind it: whatever was modified before that date is read. The date must lie back as far as the
dates with which jobs begin, because what is stored late may be placed before it. Where the feed
does not go on, the walk goes to the list's end, and leaves no token: the next job begins by date.
A job that had a token reads again from the overlap behind it, as where a token is refused.

What was deleted is in the feed alone. What the feed would have told of it in the part that was read
by the list is told as soon as that part can be read: the reject of the record stands for that part
as well, and where the feed does not go on, the rest of it is a reject of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import structlog
from pydantic import JsonValue

from temporaletl import (
    ConfigurationError,
    RecordError,
    Reject,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.clock import utc_now
from temporaletl.errors import ETLError
from temporaletl.external.headway import Headway
from temporaletl.external.servicetitan.resources import ExportPosition
from temporaletl.external.servicetitan.settings import OVERLAP
from temporaletl.worker.sources.servicetitan.extract.client import (
    FAILURES,
    FEW_ATTEMPTS,
    ExportAnswer,
    Found,
    ServiceTitanClient,
    Span,
    as_text,
)
from temporaletl.worker.sources.servicetitan.extract.walk import Walk
from temporaletl.worker.sources.servicetitan.record import Record, moment

log = structlog.get_logger("temporaletl.worker.sources.servicetitan")

_BAD_REQUEST = 400
_MOST_RESTARTS = 8
#: Pages of the list behind an unreadable record, after each of which the feed is tried again.
_MOST_TRIES = 3


class Feed:
    """Follows a feed from a cursor, or from where its job begins, to its present end."""

    def __init__(
        self,
        client: ServiceTitanClient,
        span: Span,
        page_size: int,
        continue_from: str | None,
        cursor: JsonValue,
    ) -> None:
        """`page_size` is that of the list, where it must be read."""
        self._client = client
        self._span = span
        self._page_size = page_size
        site = client.site.settings.site
        if cursor is None:
            self._place = ExportPosition(site=site, token=continue_from)
        else:
            try:
                self._place = msgspec.convert(cursor, ExportPosition)
            except msgspec.ValidationError as error:
                raise ConfigurationError(f"no cursor of an export: {error}") from None
            if self._place.site != site:
                raise ConfigurationError(
                    f"this job began to read {self._place.site}, and the settings now name {site}: "
                    "cancel it, and start another"
                )
        self._headway = Headway(self._what, begin=self._place.token)
        #: Goes around what the feed cannot give.
        self._walk: Walk | None = None
        self._met = 0
        self._tries = _MOST_TRIES if self._place.met else 0
        self._failure = ""
        if self._place.around is not None:
            self._walk = self._walk_from(self._place.around)

    def next(self) -> Found | None:
        """Return what the next answer brings, perhaps nothing but its token; None at the end.

        Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be.
            SourceProtocolError: the feed never takes its own tokens.
            ETLError: as `ServiceTitanSite.read`, where it is not a single record's fault.
        """
        while not self._place.ended:
            asked = utc_now()
            if self._walk is not None and not self._goes_on_behind(self._walk):
                return self._listed(self._walk, asked)
            try:
                answer = self._ask()
            except FAILURES as error:
                self._go_around(error)
                continue
            if answer is None:
                self._begin_anew()
            elif self._leads_on(answer):
                self._move(answer)
                records, rejects = self._sort(answer.data)
                return Found(records, rejects, self._cursor, asked)
        return None

    @property
    def _cursor(self) -> JsonValue:
        cursor: JsonValue = msgspec.to_builtins(self._place)
        return cursor

    @property
    def _what(self) -> str:
        return f"servicetitan: the export of {self._client.resource.stream}"

    @property
    def _begin(self) -> str:
        """From where on the feed is asked: the token, else the date, else empty."""
        start = self._place.since or self._span.start
        return self._place.token or ("" if start is None else as_text(start))

    def _ask(self, *, attempts: int | None = None) -> ExportAnswer | None:
        """Ask for what follows; None if our token is refused."""
        accept = () if self._place.token is None else (_BAD_REQUEST,)
        return self._client.export(self._begin, accept=accept, attempts=attempts)

    def _still_fails(self) -> bool:
        try:
            self._ask(attempts=FEW_ATTEMPTS)
        except FAILURES as error:
            if not self._client.may_narrow(error):
                raise
            return True
        return False

    def _answers_from(self, date: datetime) -> bool:
        """Whether the feed answers from a date on; a brief attempt."""
        try:
            self._client.export(as_text(date), attempts=FEW_ATTEMPTS)
        except SourceProtocolError:
            return False  # a date that it does not take is no answer either
        except SourceUnavailableError as error:
            if not self._client.may_narrow(error):
                raise
            return False
        return True

    def _go_around(self, error: ETLError) -> None:
        """Turn to the list for what the feed fails to tell.

        Raises: the error, where the feed fails at its present end as well: it is the site's.
        """
        if not self._client.may_narrow(error) or not self._answers_from(utc_now()):
            raise error
        if not self._still_fails():
            return  # the site was down for a while
        log.warning("feed_left_for_list", stream=self._client.resource.stream, error=str(error))
        place = self._place
        self._place = ExportPosition(
            site=place.site, since=place.since, left=self._begin, restarts=place.restarts
        )
        self._walk, self._met, self._tries = self._walk_from(None), 0, 0
        self._failure = f": {error}"

    def _walk_from(self, cursor: JsonValue) -> Walk:
        span = replace(self._span, start=self._place.since or self._span.start)
        return Walk(self._client, span, self._page_size, cursor)

    def _goes_on_behind(self, walk: Walk) -> bool:
        """Leave the walk where it has passed what the feed cannot give, and the feed goes on."""
        if walk.unreadable > self._met:
            self._met, self._tries = walk.unreadable, _MOST_TRIES
        date, since = walk.reached, self._place.since or self._span.start
        if not self._tries or date is None or (since is not None and date <= since):
            return False
        if date > utc_now() - OVERLAP:
            return False
        self._tries -= 1
        if not self._answers_from(date):
            return False
        place = self._place
        self._place = ExportPosition(site=place.site, since=date, restarts=place.restarts)
        self._headway.begin_anew()
        self._walk = None
        return True

    def _listed(self, walk: Walk, asked: datetime) -> Found:
        """Return what the list brings next; at its end, where the next job goes on: by date."""
        found = walk.next()
        place = self._place
        if found is None:
            rejects = [self._untold()]
            self._place = msgspec.structs.replace(
                place, around=None, left="", met=False, ended=True
            )
            return Found((), rejects, self._cursor, asked)
        around = msgspec.convert(found.cursor, dict[str, Any])
        met = place.met or walk.unreadable > 0
        self._place = msgspec.structs.replace(place, around=around, met=met)
        rejects = [self._with_part(reject) for reject in found.rejects]
        return replace(found, rejects=rejects, cursor=self._cursor)

    def _with_part(self, reject: Reject) -> Reject:
        """Have a record that cannot be read stand for the part of the feed that holds it, too."""
        if not isinstance(reject.payload, dict):
            return reject  # one that came, and cannot be decoded
        part = {"export_from": self._place.left}
        return msgspec.structs.replace(reject, payload=reject.payload | part)

    def _untold(self) -> Reject:
        """What the feed has from where it was left, as far as the list does not tell it."""
        stream, left = self._client.resource.stream, self._place.left
        return Reject(
            stage="extract",
            reason=f"ServiceTitan cannot give the rest of the export of {stream}: the list was "
            "read in its place, and what is in the export alone, as deleted records are, is not "
            f"told{self._failure}",
            payload={"stream": stream, "export_from": left},
        )

    def _begin_anew(self) -> None:
        """Go back to the date where the job begins: our token is no longer good."""
        restarts = self._place.restarts + 1
        if restarts > _MOST_RESTARTS:
            raise SourceProtocolError(
                f"{self._what} refuses its own tokens; it was begun anew {_MOST_RESTARTS} times"
            )
        place = self._place
        self._place = ExportPosition(site=place.site, since=place.since, restarts=restarts)
        self._headway.begin_anew()

    def _leads_on(self, answer: ExportAnswer) -> bool:
        if not answer.has_more:
            return True
        if not answer.continue_from:
            raise SourceProtocolError(f"{self._what} has more, and no token (continueFrom) for it")
        return self._headway.leads_on(answer.continue_from, rows=len(answer.data))

    def _move(self, answer: ExportAnswer) -> None:
        token = answer.continue_from or None
        ended = not answer.has_more
        self._place = msgspec.structs.replace(
            self._place,
            token=token if token is not None else self._place.token,
            ended=ended,
            reached=self._span.watermark if ended else None,
        )

    def _sort(self, data: list[msgspec.Raw]) -> tuple[list[Record[Any]], list[Reject]]:
        records, rejects = [], []
        for each in map(self._client.record, data):
            if isinstance(each, Reject):
                rejects.append(each)
            else:
                records.append(each)
        return list(self._spanned(records)), rejects

    def _spanned(self, records: list[Record[Any]]) -> Iterator[Record[Any]]:
        """Leave out what was created too late: a feed has no filter of its own."""
        end = self._span.created_before
        for record in records:
            if end is not None:
                try:
                    created = moment(record.body.created_on, "createdOn")
                except RecordError:
                    created = None
                if created is not None and created >= end:
                    continue
            yield record
