"""Messages of checks: their results, and what a service is asked and answers."""

from typing import Literal

from temporaletl.bound_connection import DEFAULT
from temporaletl.messages import Message

Verdict = Literal["ok", "wrong", "note"]


class Check(Message):
    """Result of one check. A `note` is worth knowing, and is no failure."""

    name: str
    verdict: Verdict
    detail: str
    #: Whether a setting or a credential is wrong, rather than that something does not answer.
    misconfigured: bool = False


class ServiceCheckRequest(Message):
    """The request to check a source's connection where a service runs, on each of its queues."""

    source: str
    connection: str = DEFAULT
    queues: tuple[str, ...]


class ServiceAnswer(Message):
    """What a process of a service sees: no secret is in it."""

    service: str
    version: str
    process: str  # its number and host
    checks: tuple[Check, ...]


#: Why nobody answered on a queue: nobody took the check, a version without it did, or it failed.
Silence = Literal["not taken", "older version", "failed"]


class QueueAnswer(Message):
    """The answer that came from a task queue; or why none came, with the reason of a failure."""

    queue: str
    answer: ServiceAnswer | None = None
    silence: Silence | None = None
    reason: str = ""


class ServiceAnswers(Message):
    """The answers of all queues of a request, in their order."""

    queues: tuple[QueueAnswer, ...]
