"""An export: the feed of everything that changed, in the vendor's own order.

A token stands for a place in the feed. Nothing is skipped as long as the tokens are followed, from
one job to the next as well: so the last one is kept even though nothing follows it yet.
"""

from collections.abc import Iterator
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
from temporaletl.external.servicetitan.resources import ExportPosition
from worker.sources.servicetitan.extract.client import Found, ServiceTitanClient, Span, as_text
from worker.sources.servicetitan.record import Record, moment

_BAD_REQUEST = 400
_MOST_RESTARTS = 8
_MOST_REPEATS = 4
#: Answers in a row that bring nothing but another token: far beyond any honest feed.
_MOST_EMPTY = 1_000


class _Answer(msgspec.Struct, rename="camel"):
    data: list[msgspec.Raw]
    has_more: bool
    continue_from: str | None = None


class Feed:
    """Follows a feed from a cursor, or from where its job begins, to its present end."""

    def __init__(
        self,
        client: ServiceTitanClient,
        span: Span,
        continue_from: str | None,
        cursor: JsonValue,
    ) -> None:
        self._client = client
        self._span = span
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
        self._tokens = {self._place.token}
        self._repeats = self._empty = 0

    def next(self) -> Found | None:
        """Return what the next answer brings, perhaps nothing but its token; None at the end.

        Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be.
            SourceProtocolError: the feed never takes its own tokens.
        """
        while not self._place.ended:
            asked = utc_now()
            answer = self._ask()
            if answer is None:
                self._begin_anew()
            elif answer.has_more and answer.continue_from and answer.continue_from in self._tokens:
                # Following it would go round in circles; the same question may get another answer.
                self._repeats += 1
                if self._repeats > _MOST_REPEATS:
                    raise SourceUnavailableError(f"{self._what} repeats a token (continueFrom)")
            else:
                self._move(answer)
                records, rejects = self._sort(answer.data)
                cursor: JsonValue = msgspec.to_builtins(self._place)
                return Found(records, rejects, cursor, asked)
        return None

    @property
    def _what(self) -> str:
        return f"servicetitan: the export of {self._client.resource.stream}"

    def _ask(self) -> _Answer | None:
        """Ask for what follows; None if our token is refused."""
        token, start = self._place.token, self._span.start
        params: dict[str, Any] = {}
        if token is not None:
            params["from"] = token
        elif start is not None:
            params["from"] = as_text(start)
        if self._client.site.settings.include_recent_changes:
            params["includeRecentChanges"] = "true"
        path = f"export/{self._client.resource.stream}"
        accept = () if token is None else (_BAD_REQUEST,)
        return self._client.read(path, params, _Answer, accept=accept)

    def _begin_anew(self) -> None:
        """Go back to the date where the job begins: our token is no longer good."""
        restarts = self._place.restarts + 1
        if restarts > _MOST_RESTARTS:
            raise SourceProtocolError(
                f"{self._what} refuses its own tokens; it was begun anew {_MOST_RESTARTS} times"
            )
        self._place = ExportPosition(site=self._place.site, restarts=restarts)
        self._tokens = {None}
        self._repeats = 0

    def _move(self, answer: _Answer) -> None:
        token = answer.continue_from or None
        if answer.has_more and token is None:
            raise SourceProtocolError(f"{self._what} has more, and no token (continueFrom) for it")
        self._repeats = 0
        self._empty = 0 if answer.data else self._empty + 1
        if self._empty > _MOST_EMPTY:
            raise SourceUnavailableError(f"{self._what} goes on and on without a record")
        self._tokens.add(token)
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
