"""Types of Launchpad's JSON, with defaults for everything that may be absent.

Wherever Launchpad shows a value to some people only, it may be `REDACTED`.
"""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from temporaletl import RecordError

REDACTED = "tag:launchpad.net:2008:redacted"

#: A timestamp as Launchpad writes it.
Timestamp = str

#: Longer ones are no numbers of Launchpad's, nor of a database.
_NUMBER = re.compile(r"/([0-9]{1,18})/?$")
_PERSON = re.compile(r"/~([^/]+)/?$")
_VERSIONED = re.compile(r"/(?:\d+\.\d+|beta|devel)/(.+)$")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """Base of all entries; unknown fields are ignored."""

    self_link: str | None = None
    web_link: str | None = None


class Person(Entry, frozen=True, kw_only=True):
    """A person or team; one without a name is none."""

    name: str
    display_name: str | None = None
    time_zone: str | None = None
    is_team: bool | None = None


class Task(Entry, frozen=True):
    """A bug in one project or package."""

    bug_link: str | None = None
    bug_target_name: str | None = None
    status: str | None = None
    importance: str | None = None
    assignee_link: str | None = None


class Bug(Entry, frozen=True):
    id: int | None = None
    title: str | None = None
    description: str | None = None
    owner_link: str | None = None
    date_created: Timestamp | None = None
    date_last_updated: Timestamp | None = None
    information_type: str | None = None
    tags: Any = None
    duplicate_of_link: str | None = None
    users_affected_count: Any = None
    message_count: Any = None
    activity_collection_link: str | None = None
    messages_collection_link: str | None = None
    bug_tasks_collection_link: str | None = None


class Activity(Entry, frozen=True):
    """One change of a bug. It has no id, and its links are its bug's."""

    datechanged: Timestamp | None = None
    person_link: str | None = None
    whatchanged: str | None = None
    oldvalue: str | None = None
    newvalue: str | None = None
    message: str | None = None


class Message(Entry, frozen=True):
    """A message about a bug or question; its link ends in its number there."""

    subject: str | None = None
    content: str | None = None
    owner_link: str | None = None
    date_created: Timestamp | None = None
    date_last_edited: Timestamp | None = None
    date_deleted: Timestamp | None = None
    #: Of messages about questions only.
    action: str | None = None
    new_status: str | None = None
    visible: bool | None = None


class Proposal(Entry, frozen=True):
    """A merge proposal; its link ends in its number."""

    queue_status: str | None = None
    description: str | None = None
    commit_message: str | None = None
    registrant_link: str | None = None
    reviewer_link: str | None = None
    merge_reporter_link: str | None = None
    merged_revno: Any = None
    merged_revision_id: str | None = None
    superseded_by_link: str | None = None
    supersedes_link: str | None = None
    source_branch_link: str | None = None
    source_git_repository_link: str | None = None
    source_git_path: str | None = None
    target_branch_link: str | None = None
    target_git_repository_link: str | None = None
    target_git_path: str | None = None
    date_created: Timestamp | None = None
    date_review_requested: Timestamp | None = None
    date_reviewed: Timestamp | None = None
    date_merged: Timestamp | None = None
    all_comments_collection_link: str | None = None
    votes_collection_link: str | None = None


class Comment(Entry, frozen=True):
    """A comment on a merge proposal, with or without a vote."""

    id: int | None = None
    title: str | None = None
    content: str | None = None
    author_link: str | None = None
    owner_link: str | None = None
    vote: str | None = None
    vote_tag: str | None = None
    date_created: Timestamp | None = None
    date_last_edited: Timestamp | None = None
    date_deleted: Timestamp | None = None


class Vote(Entry, frozen=True):
    """A review that is wanted of somebody, given or not; its link ends in its number."""

    reviewer_link: str | None = None
    registrant_link: str | None = None
    review_type: str | None = None
    is_pending: bool | None = None
    comment_link: str | None = None
    date_created: Timestamp | None = None


class Question(Entry, frozen=True):
    id: int | None = None
    title: str | None = None
    description: str | None = None
    status: str | None = None
    owner_link: str | None = None
    assignee_link: str | None = None
    answerer_link: str | None = None
    target_link: str | None = None
    date_created: Timestamp | None = None
    date_last_query: Timestamp | None = None
    date_last_response: Timestamp | None = None
    date_solved: Timestamp | None = None
    messages_collection_link: str | None = None


def readable(link: str | None) -> str | None:
    """Return a link that can be followed; None where there is none, or it is redacted."""
    return None if not link or link == REDACTED else link


def number_of(link: str | None) -> int | None:
    """Return the number at the end of a link: of a bug, message, proposal, vote or question."""
    found = _NUMBER.search(_path_in(link)) if link else None
    return int(found[1]) if found else None


def name_of(link: str | None) -> str | None:
    """Return the Launchpad name at the end of a person's link, without the tilde."""
    found = _PERSON.search(_path_in(link)) if link else None
    return unquote(found[1]) if found else None


def path_of(link: str | None) -> str | None:
    """Return what of a link follows the API's version: the name of a project or branch."""
    found = _VERSIONED.search(_path_in(link)) if link else None
    return unquote(found[1]) if found else None


def _path_in(link: str) -> str:
    try:
        return urlsplit(link).path
    except ValueError:
        return ""  # no address at all


def utc(timestamp: Timestamp | None, field: str) -> datetime:
    """Return a timestamp as an aware datetime in UTC; one that names no zone is UTC already.

    Raises:
        RecordError: there is no time in the field, or it cannot be read.
    """
    if timestamp is None:
        raise RecordError(f"{field} is missing")
    try:
        parsed = datetime.fromisoformat(timestamp)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise RecordError(f"{field} is not a time: {timestamp!r}") from None


def utc_or_none(timestamp: Timestamp | None) -> datetime | None:
    """Return a timestamp in UTC; None where there is none, or it cannot be read."""
    try:
        return utc(timestamp, "time")
    except RecordError:
        return None
