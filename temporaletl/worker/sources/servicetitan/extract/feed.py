"""Export feeds: everything that changed, in the vendor's own order, by continuation token.

A token stands for a position in the feed. Nothing is skipped as long as the tokens are followed,
from one job to the next as well: so the last one is kept even though nothing follows it yet.

An answer that would hold a record that cannot be rendered fails, and what it holds besides, and its
token, cannot be had of the feed. Then the list is read in its place, from the date where the job
begins, or where the feed was last begun anew: whatever the feed still had to report was modified
since, in whatever order. The list gets around the record, and the feed goes on by date behind it:
whatever was modified before that date is read. The date must lie back as far as the dates with
which jobs begin, because what is stored late may be placed before it. Where the feed does not go
on, the list is read to its end, and leaves no token: the next job begins by date. A job that had a
token reads again from the overlap behind it, as where a token is refused.

What was deleted is in the feed alone. What the feed would have reported of it in the part that was
read by the list is reported as soon as that part can be read: the reject of the record stands for
that part as well, and where the feed does not go on, the rest of it is a reject of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
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
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.servicetitan.extract.client import (
    FAILURES,
    FEW_ATTEMPTS,
    ExportAnswer,
    FetchedPage,
    ServiceTitanClient,
    Span,
    as_text,
)
from temporaletl.worker.sources.servicetitan.extract.keyset import KeysetPagination
from temporaletl.worker.sources.servicetitan.record import Record, timestamp

log = get_logger("temporaletl.worker.sources.servicetitan")

_BAD_REQUEST = 400
_MOST_RESTARTS = 8
#: Pages of the list behind an unreadable record, after each of which the feed is tried again.
_MOST_TRIES = 3


class Feed:
    """Pagination of an export feed, from a cursor or the job's start, to its present end."""

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
            self._position = ExportPosition(site=site, token=continue_from)
        else:
            try:
                self._position = msgspec.convert(cursor, ExportPosition)
            except msgspec.ValidationError as error:
                raise ConfigurationError(f"no cursor of an export: {error}") from None
            if self._position.site != site:
                raise ConfigurationError(
                    f"this job began to read {self._position.site}, and the settings now name "
                    f"{site}: cancel it, and start another"
                )
        self._headway = Headway(self._what, begin=self._position.token)
        #: Reads the list around what the feed cannot give.
        self._pagination: KeysetPagination | None = None
        self._met = 0
        self._tries = _MOST_TRIES if self._position.met else 0
        self._failure = ""
        if self._position.around is not None:
            self._pagination = self._pagination_from(self._position.around)

    def next(self) -> FetchedPage | None:
        """Return the next page, perhaps with nothing but its token; None at the end.

        Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be.
            SourceProtocolError: the feed never takes its own tokens.
            ETLError: as `ServiceTitanSite.read`, where it is not a single record's fault.
        """
        while not self._position.ended:
            requested_at = utc_now()
            if self._pagination is not None and not self._returns_to_feed(self._pagination):
                return self._listed(self._pagination, requested_at)
            try:
                answer = self._request()
            except FAILURES as error:
                self._read_list_instead(error)
                continue
            if answer is None:
                self._begin_anew()
            elif self._leads_on(answer):
                self._advance(answer)
                records, rejects = self._sort(answer.data)
                return FetchedPage(records, rejects, self._cursor, requested_at)
        return None

    @property
    def _cursor(self) -> JsonValue:
        cursor: JsonValue = msgspec.to_builtins(self._position)
        return cursor

    @property
    def _what(self) -> str:
        return f"servicetitan: the export of {self._client.resource.stream}"

    @property
    def _begin(self) -> str:
        """The start of the next request: the token, else the date, else empty."""
        start = self._position.since or self._span.start
        return self._position.token or ("" if start is None else as_text(start))

    def _request(self, *, attempts: int | None = None) -> ExportAnswer | None:
        """Request what follows; None if the token is refused."""
        accept = () if self._position.token is None else (_BAD_REQUEST,)
        return self._client.export(self._begin, accept=accept, attempts=attempts)

    def _still_fails(self) -> bool:
        try:
            self._request(attempts=FEW_ATTEMPTS)
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

    def _read_list_instead(self, error: ETLError) -> None:
        """Turn to the list for the part in which the feed fails.

        Raises: the error, where the feed fails at its present end as well: it is the site's.
        """
        if not self._client.may_narrow(error) or not self._answers_from(utc_now()):
            raise error
        if not self._still_fails():
            return  # the site was down for a while
        log.warning("feed_left_for_list", stream=self._client.resource.stream, error=str(error))
        position = self._position
        self._position = ExportPosition(
            site=position.site, since=position.since, left=self._begin, restarts=position.restarts
        )
        self._pagination, self._met, self._tries = self._pagination_from(None), 0, 0
        self._failure = f": {error}"

    def _pagination_from(self, cursor: JsonValue) -> KeysetPagination:
        span = replace(self._span, start=self._position.since or self._span.start)
        return KeysetPagination(self._client, span, self._page_size, cursor)

    def _returns_to_feed(self, pagination: KeysetPagination) -> bool:
        """Return from the list to the feed, where the list has passed what made the feed fail."""
        if pagination.unreadable > self._met:
            self._met, self._tries = pagination.unreadable, _MOST_TRIES
        date, since = pagination.reached, self._position.since or self._span.start
        if not self._tries or date is None or (since is not None and date <= since):
            return False
        if date > utc_now() - OVERLAP:
            return False
        self._tries -= 1
        if not self._answers_from(date):
            return False
        position = self._position
        self._position = ExportPosition(site=position.site, since=date, restarts=position.restarts)
        self._headway.begin_anew()
        self._pagination = None
        return True

    def _listed(self, pagination: KeysetPagination, requested_at: datetime) -> FetchedPage:
        """Return the next page of the list; at its end, a cursor with which jobs begin by date."""
        page = pagination.next()
        position = self._position
        if page is None:
            rejects = [self._missing_part()]
            self._position = msgspec.structs.replace(
                position, around=None, left="", met=False, ended=True
            )
            return FetchedPage((), rejects, self._cursor, requested_at)
        around = msgspec.convert(page.cursor, dict[str, Any])
        met = position.met or pagination.unreadable > 0
        self._position = msgspec.structs.replace(position, around=around, met=met)
        rejects = [self._with_part(reject) for reject in page.rejects]
        return replace(page, rejects=rejects, cursor=self._cursor)

    def _with_part(self, reject: Reject) -> Reject:
        """Add to the reject of an unreadable record the part of the feed that holds it."""
        if not isinstance(reject.payload, dict):
            return reject  # one that came, and cannot be decoded
        part = {"export_from": self._position.left}
        return msgspec.structs.replace(reject, payload=reject.payload | part)

    def _missing_part(self) -> Reject:
        """The reject for the rest of the feed, as far as the list does not replace it."""
        stream, left = self._client.resource.stream, self._position.left
        return Reject(
            stage="extract",
            reason=f"ServiceTitan cannot give the rest of the export of {stream}: the list was "
            "read in its place, and what is in the export alone, as deleted records are, is not "
            f"told{self._failure}",
            payload={"stream": stream, "export_from": left},
        )

    def _begin_anew(self) -> None:
        """Go back to the date where the job begins: its token is refused."""
        restarts = self._position.restarts + 1
        if restarts > _MOST_RESTARTS:
            raise SourceProtocolError(
                f"{self._what} refuses its own tokens; it was begun anew {_MOST_RESTARTS} times"
            )
        position = self._position
        self._position = ExportPosition(site=position.site, since=position.since, restarts=restarts)
        self._headway.begin_anew()

    def _leads_on(self, answer: ExportAnswer) -> bool:
        if not answer.has_more:
            return True
        if not answer.continue_from:
            raise SourceProtocolError(f"{self._what} has more, and no token (continueFrom) for it")
        return self._headway.leads_on(answer.continue_from, rows=len(answer.data))

    def _advance(self, answer: ExportAnswer) -> None:
        token = answer.continue_from or None
        ended = not answer.has_more
        self._position = msgspec.structs.replace(
            self._position,
            token=token if token is not None else self._position.token,
            ended=ended,
            reached=self._span.watermark if ended else None,
        )

    def _sort(self, data: list[msgspec.Raw]) -> tuple[list[Record[Any]], list[Reject]]:
        records, rejects = [], []
        for result in map(self._client.record, data):
            if isinstance(result, Reject):
                rejects.append(result)
            else:
                records.append(result)
        return list(self._spanned(records)), rejects

    def _spanned(self, records: list[Record[Any]]) -> Iterator[Record[Any]]:
        """Leave out what was created too late: a feed has no filter of its own."""
        end = self._span.created_before
        for record in records:
            if end is not None:
                try:
                    created = timestamp(record.body.created_on, "createdOn")
                except RecordError:
                    created = None
                if created is not None and created >= end:
                    continue
            yield record
