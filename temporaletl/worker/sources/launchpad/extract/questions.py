"""The extract method for questions, with their messages.

Questions can be searched for in the development version of the API only, and by no time. Answers
move a question's dates, plain comments do not; solved questions are commented on, too. So every
run lists all questions, of every status, and reads the messages of each: one request a question.
The parameter `closed_days` makes incremental runs cheaper, as it does for merge proposals: they
leave out questions that were solved, expired or rejected so many days before their window.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator

import msgspec

from temporaletl import Page, PageRequest, extract_method
from temporaletl.external.launchpad.site import DEVEL
from temporaletl.worker.sources.launchpad.entries import Question, utc_or_none
from temporaletl.worker.sources.launchpad.extract.client import LaunchpadClient, decoded
from temporaletl.worker.sources.launchpad.extract.details import Gathered
from temporaletl.worker.sources.launchpad.extract.listing import Kind, is_excluded, pages
from temporaletl.worker.sources.launchpad.extract.subjects import question_searches
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import QuestionWhole, RawRecord

_CLOSED = frozenset({"Solved", "Expired", "Invalid"})


@extract_method("launchpad-questions")
async def extract_questions(request: PageRequest[LaunchpadQuery]) -> AsyncGenerator[Page]:
    """Yield the questions of the job's people and targets, lowest number first.

    Raises: as `extract_bugs`.
    """
    async with contextlib.aclosing(pages(KIND, request)) as found:
        async for page in found:
            yield page


def _wanted(request: PageRequest[LaunchpadQuery], entry: msgspec.Raw) -> bool:
    question = decoded(Question, entry)
    if question is None:
        return True  # reading it shows what is wrong with it
    timestamps = [
        utc_or_none(question.date_created),
        utc_or_none(question.date_last_query),
        utc_or_none(question.date_last_response),
        utc_or_none(question.date_solved),
    ]
    return not is_excluded(request, timestamps, closed=question.status in _CLOSED)


def _read(client: LaunchpadClient, number: int, entry: msgspec.Raw) -> Gathered:
    gathered, key = Gathered(), str(number)
    gathered.record = RawRecord(key, {"question": entry})
    question = decoded(Question, entry)
    if question is None:
        return gathered  # the transform rejects it, and says why
    links = {"messages": question.messages_collection_link}
    gathered.read(client, links, f"question {number}", key)
    return gathered


def people_in(record: RawRecord) -> Iterator[str | None]:
    """Yield the links of the people in a question: its owner, and the authors of messages."""
    whole = RawRecord.whole(QuestionWhole, record)
    yield whole.question.owner_link
    for message in whole.messages:
        yield message.owner_link


KIND = Kind("question", DEVEL, question_searches, _wanted, _read, people_in)
