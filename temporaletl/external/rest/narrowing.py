"""Pages that an API cannot give because of one record in them: their records, one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from temporaletl.errors import ETLError, SourceProtocolError, SourceUnavailableError
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.records import Answer, Record, Shape, marks_of
from temporaletl.rereading import Reread, Unread
from temporaletl.rows import Reject
from temporaletl.secrets import redacted
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.rest")

#: What an API that breaks over one record answers, each time it would give that record.
_BROKEN = (SourceUnavailableError, AnswerTooLargeError)
#: A record is looked for up to so far behind in its list.
_MOST_PAGES = 10


class Pages:
    """Reads pages by number, `page` and `size` being the parameters' names, `first` the first's.

    Where a page cannot be had in spite of all attempts, its records are requested one by one, in
    pages of one: those that come are taken, and the others become rejects. Where none comes, it is
    the API that is out of order, and no record of it.
    """

    def __init__(
        self, api: RestApi, path: str, shape: Shape, *, page: str | None, size: str, first: int
    ) -> None:
        self._api = api
        self._path = path
        self._shape = shape
        self._page = page
        self._size = size
        self._first = first

    async def read(
        self, params: Mapping[str, Any], number: int, size: int
    ) -> tuple[Answer | None, Sequence[Record], Sequence[Reject]]:
        """Return the answer, or None with the records and rejects that came one by one.

        `number` counts pages of that size from 0.

        Raises: as `RestApi.page`.
        """
        try:
            answer = await self._fetch(params, number, size)
        except _BROKEN as error:
            if self._page is None or (
                isinstance(error, SourceUnavailableError) and error.delay is not None
            ):
                raise
            records, rejects = await self._one_by_one(params, number * size, size)
            if not records:
                raise
            log.warning("page_read_one_by_one", path=self._path, rejects=len(rejects))
            return None, records, rejects
        return answer, answer.records, ()

    async def differ(self, params: Mapping[str, Any]) -> bool:
        """Whether the second page of one record holds another record than the first.

        Where not, the API does not take the number of a page.

        Raises: as `RestApi.page`.
        """
        one, other = [await self._fetch(params, number, 1) for number in (0, 1)]
        return marks_of(one.records[:1]) != marks_of(other.records[:1])

    async def _fetch(self, params: Mapping[str, Any], number: int, size: int) -> Answer:
        paged = {} if self._page is None else {self._page: self._first + number}
        answer = await self._api.page(
            self._path, {**params, self._size: size, **paged}, self._shape
        )
        if answer is None:
            raise SourceProtocolError(f"{self._api.source}: {self._path} gave no page")
        return answer

    async def _one_by_one(
        self, params: Mapping[str, Any], offset: int, count: int
    ) -> tuple[list[Record], list[Reject]]:
        records: list[Record] = []
        rejects: list[Reject] = []
        for position in range(offset, offset + count):
            try:
                answer = await self._patiently(params, position)
            except _BROKEN as error:
                rejects.append(self._gap(params, position + 1, error))
            else:
                if not answer.records:
                    break
                records += answer.records
        return records, rejects

    async def _patiently(self, params: Mapping[str, Any], position: int) -> Answer:
        """Fetch one record, and again where that fails; it is skipped after that."""
        try:
            return await self._fetch(params, position, 1)
        except _BROKEN as error:
            if isinstance(error, SourceUnavailableError) and error.delay is not None:
                raise
        return await self._fetch(params, position, 1)

    def _gap(self, params: Mapping[str, Any], position: int, error: ETLError) -> Reject:
        gap = Gap(
            path=self._path,
            # What is a credential must not go to a table.
            params={
                name: str(value)
                for name, value in params.items()
                if redacted(str(value)) == str(value)
            },
            position=position,
            records=self._shape.records,
            id=self._shape.id,
            page=self._page or "",
            size=self._size,
            first=self._first,
        )
        return Reject(
            stage="extract",
            reason=f"the API cannot give record {position} of this list: {error}",
            key=f"{self._path} {position}",
            payload=gap,
        )


class Gap(msgspec.Struct, frozen=True):
    """A reject's payload for a record that a list cannot give: the list, and the position.

    `position` counts from 1. `records` and `id` are the list's `Shape`; `page` and `size` are
    the names of the paging parameters, `first` the number of the first page.
    """

    path: str
    params: dict[str, str]
    position: int
    records: str
    id: str
    page: str
    size: str
    first: int


async def reread(api: RestApi, unread: Unread) -> Reread | None:
    """Read a list once more, up to the record that it could not give.

    Where the list is in the order of its records' changes, what changes goes to its end: the
    record is where it was, or before. None for a reject that is of no list, or far behind in one.

    Raises:
        ETLError: as `RestApi.page`, where it is not for the sake of a record.
    """
    try:
        gap = msgspec.convert(unread.payload, Gap)
    except msgspec.ValidationError:
        return None
    at_once = api.settings.page_size
    if gap.position > _MOST_PAGES * at_once:
        return None
    shape = Shape(gap.records, gap.id)
    pages = Pages(api, gap.path, shape, page=gap.page, size=gap.size, first=gap.first)
    found: list[Record] = []
    faults: list[str] = []
    for number in range(-(-gap.position // at_once)):
        try:
            _, some, rejects = await pages.read(gap.params, number, at_once)
        except _BROKEN as error:
            # Alone on its page, a record fails all of it.
            faults.append(f"it cannot be read yet: {error}")
            break
        found += some
        faults += [reject.reason for reject in rejects]
        if not some:
            break
    return Reread(found, "; ".join(faults) or None)
