"""The results of a search for issues, one by one a record or a reject."""

import re
from dataclasses import dataclass

import msgspec
import requests
import xxhash

from temporaletl import RecordError, Reject
from temporaletl.external.answers import MisfitAnswerError, decode, decode_record
from temporaletl.worker.sources.jira.issue import Id, IssueRecord
from temporaletl.worker.sources.jira.timestamps import Timestamp, ms_of

#: The fields that keyset pagination itself needs.
BARE_FIELDS = ("created", "updated")
_NAMES = re.compile(rb'"(id|key)"\s*:\s*"([A-Za-z0-9_-]{1,100})"')


class Answer(msgspec.Struct, rename="camel"):
    """A page of a search, of either kind of site."""

    issues: list[msgspec.Raw]
    next_page_token: str | None = None
    total: int | None = None


def read_answer(response: requests.Response, *, cloud: bool) -> Answer:
    """Decode the response to a search.

    Raises: as `decode`.
    """
    answer = decode(Answer, response, source="jira")
    if answer.total is None and not cloud:
        raise MisfitAnswerError("jira: a search answered without its total")
    return answer


class BareFields(msgspec.Struct):
    created: Timestamp | None = None
    updated: Timestamp | None = None


class BareIssue(msgspec.Struct):
    id: Id | None = None
    key: str | None = None
    fields: BareFields | None = None

    def time(self, *, by_created: bool) -> int | None:
        fields = self.fields or BareFields()
        return ms_of(fields.created if by_created else fields.updated)


@dataclass(frozen=True, slots=True)
class Row:
    """One issue of an answer: a record, or a reject. Times are epoch milliseconds."""

    id: str
    time: int | None  # of the search's order
    updated: int
    record: IssueRecord | None = None
    reject: Reject | None = None


def row_of(raw: msgspec.Raw, *, by_created: bool) -> Row:
    """Decode one issue of an answer as a record, or as a reject where it cannot be decoded."""
    try:
        record = IssueRecord.read(raw)
    except RecordError as error:
        return _undecodable(raw, error, by_created=by_created)
    fields = record.issue.fields
    updated = ms_of(fields.updated)
    time = ms_of(fields.created) if by_created else updated
    return Row(record.id, time, updated or 0, record)


def bare_of(raw: msgspec.Raw) -> BareIssue:
    """Decode only an issue's id, key and times, as far as even these can be decoded."""
    try:
        return decode_record(BareIssue, raw)
    except RecordError:
        # Names come before the fields, in which whatever is wrong with it most likely is.
        head = bytes(raw).partition(b'"fields"')[0]
        names = {name.decode(): value.decode() for name, value in _NAMES.findall(head)}
        return BareIssue(id=names.get("id"), key=names.get("key"))


def _undecodable(raw: msgspec.Raw, error: RecordError, *, by_created: bool) -> Row:
    bare = bare_of(raw)
    id_ = str(bare.id) if bare.id is not None else xxhash.xxh3_64_hexdigest(bytes(raw))
    reject = Reject(stage="extract", reason=str(error), key=bare.key, payload=raw)
    updated = bare.time(by_created=False)
    return Row(id_, bare.time(by_created=by_created), updated or 0, reject=reject)
