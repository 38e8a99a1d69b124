"""Changes to a site, with the effects on `updated` and the history that they have in Jira."""

import itertools
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from tests.fakes.jira.history import item
from tests.fakes.jira.people import account_of
from tests.fakes.jira.site import Issue, Json, Row, User

if TYPE_CHECKING:
    from tests.fakes.jira.site import Site

#: Above every id that a generated issue can use.
_FIRST_NEW_ID = 500_000_000


class When(TypedDict, total=False):
    """When something happens, as the instant in ms, and by whom, as a user's id."""

    at: int | None
    by: str | None


class Editor:
    """Changes one site. Every method takes a key or an id and, as `at`, the instant in ms.

    Without `at` the site's clock is used. `by` is a user's id, by default the owner's.
    """

    def __init__(self, site: "Site") -> None:
        self._site = site
        self._ids = itertools.count(_FIRST_NEW_ID)

    def add_issue(
        self,
        project: str,
        summary: str = "New issue",
        *,
        at: int | None = None,
        by: str | None = None,
        **fields: Any,
    ) -> Row:
        """Create an issue in a known project; more fields replace the usual empty ones."""
        site = self._site
        with site.lock:
            timestamp = self._now(at)
            sequence = 1 + max((r.sequence for r in site.rows if r.project == project), default=0)
            id_ = 1 + max((row.id for row in site.rows), default=9_999)
            catalogue = site.catalogue
            status = fields.pop("status", None) or next(iter(catalogue.statuses), "To Do")
            issuetype = next(iter(catalogue.issue_types), "Task")
            person = self._person(by)
            content: Json = {
                "summary": summary,
                "description": None,
                "project": catalogue.projects[project],
                "status": catalogue.statuses.get(status, {"id": "1", "name": status}),
                "issuetype": catalogue.issue_types.get(issuetype),
                "creator": person,
                "reporter": person,
                "assignee": None,
                "labels": [],
                "created": timestamp,
                **fields,
                "updated": timestamp,
            }
            row = Row(
                id_,
                f"{project}-{sequence}",
                project,
                sequence,
                timestamp,
                timestamp,
                status,
                issuetype,
                account_of(content["assignee"]),
                tuple(content["labels"]),
                issue=Issue(content),
            )
            site.rows.append(row)
            site.membership += 1
            site.by_id[row.id] = site.by_key[row.key] = row
            site.changed(row)
            return row

    def delete_issue(self, issue: str | int) -> None:
        """Delete an issue and all its parts, without a trace."""
        with self._site.lock:
            row = self._row(issue)
            self._site.rows.remove(row)
            self._site.membership += 1
            del self._site.by_id[row.id], self._site.by_key[row.key]
            self._site.changed(row)

    def touch(self, issue: str | int, *, at: int | None = None) -> None:
        """Move an issue's `updated` without any event, as a vote or a new rank does."""
        with self._site.lock:
            row = self._row(issue)
            # Pinned first: a generated issue fills the time until its `updated` with edits.
            fields = self._site.pin(row).fields
            row.updated = fields["updated"] = self._now(at)
            self._site.changed(row)

    def transition(self, issue: str | int, status: str, **when: Unpack[When]) -> Json:
        """Move an issue to another status; return the history."""
        with self._site.lock:
            row = self._row(issue)
            statuses = self._site.catalogue.statuses
            new = statuses.get(status, {"id": "1", "name": status})
            old = self._site.pin(row).fields.get("status") or {}
            self._site.pin(row).fields["status"] = new
            row.status = status
            change = item(
                "status",
                (old.get("id"), old.get("name")),
                (new["id"], status),
                field_id="status" if self._site.cloud else None,
            )
            return self.add_history(row.id, [change], **when)

    def assign(self, issue: str | int, user: str | None, **when: Unpack[When]) -> Json:
        """Give an issue to somebody, or to nobody; return the history."""
        with self._site.lock:
            row = self._row(issue)
            old = row.assignee
            row.assignee = user
            self._site.pin(row).fields["assignee"] = self._person(user) if user else None
            change = item(
                "assignee",
                (old, self._name(old)),
                (user, self._name(user)),
                field_id="assignee" if self._site.cloud else None,
            )
            return self.add_history(row.id, [change], **when)

    def set_text(self, issue: str | int, field: str, text: str, **when: Unpack[When]) -> Json:
        """Change a text field such as `summary` or `description`; return the history."""
        with self._site.lock:
            row = self._row(issue)
            content = self._site.pin(row)
            old = content.fields.get(field)
            content.fields[field] = text
            field_id = field if self._site.cloud else None
            change = item(field, (None, old), (None, text), field_id=field_id)
            return self.add_history(row.id, [change], **when)

    def add_history(self, issue: str | int, items: list[Json], **when: Unpack[When]) -> Json:
        """Append a history with these items, leaving the fields alone; return it."""
        with self._site.lock:
            row = self._row(issue)
            timestamp = self._stamp(row, when.get("at"))
            history: Json = {
                "id": self._id(),
                "author": self._person(when.get("by")),
                "created": timestamp,
            }
            history["items"] = items
            self._site.pin(row).histories.append(history)
            return history

    def add_comment(self, issue: str | int, body: str, **when: Unpack[When]) -> Json:
        """Add a comment; return it."""
        with self._site.lock:
            row = self._row(issue)
            timestamp = self._stamp(row, when.get("at"))
            person = self._person(when.get("by"))
            comment: Json = {"id": self._id(), "author": person, "body": body}
            comment |= {"updateAuthor": person, "created": timestamp, "updated": timestamp}
            self._site.pin(row).comments.append(comment)
            return comment

    def edit_comment(
        self, issue: str | int, comment_id: str, body: str, **when: Unpack[When]
    ) -> Json:
        """Change a comment's text; return it."""
        with self._site.lock:
            row = self._row(issue)
            comment = _one(self._site.pin(row).comments, comment_id)
            comment |= {"body": body, "updateAuthor": self._person(when.get("by"))}
            comment["updated"] = self._stamp(row, when.get("at"))
            return comment

    def delete_comment(self, issue: str | int, comment_id: str, **when: Unpack[When]) -> None:
        """Delete a comment; only a `Comment` item in the history remains."""
        with self._site.lock:
            row = self._row(issue)
            comments = self._site.pin(row).comments
            comment = _one(comments, comment_id)
            comments.remove(comment)
            gone = item("Comment", (comment_id, str(comment.get("body"))), (None, None))
            self.add_history(row.id, [gone], **when)

    def add_worklog(
        self,
        issue: str | int,
        seconds: int,
        *,
        started: int | None = None,
        comment: str = "",
        at: int | None = None,
        by: str | None = None,
    ) -> Json:
        """Log work; return the worklog. The history notes the time and the worklog's id."""
        with self._site.lock:
            row = self._row(issue)
            timestamp = self._stamp(row, at)
            person = self._person(by)
            worklog: Json = {
                "id": self._id(),
                "issueId": str(row.id),
                "author": person,
                "updateAuthor": person,
                "comment": comment,
                "created": timestamp,
                "updated": timestamp,
                "started": timestamp - seconds * 1000 if started is None else started,
                "timeSpent": f"{seconds // 60}m",
                "timeSpentSeconds": seconds,
            }
            self._site.pin(row).worklogs.append(worklog)
            spent = item("timespent", (None, None), (str(seconds), str(seconds)))
            noted = item("WorklogId", (None, None), (worklog["id"], worklog["id"]))
            self.add_history(row.id, [spent, noted], at=timestamp, by=by)
            return worklog

    def edit_worklog(
        self, issue: str | int, worklog_id: str, seconds: int, **when: Unpack[When]
    ) -> Json:
        """Change the time of a worklog; return it."""
        with self._site.lock:
            row = self._row(issue)
            worklog = _one(self._site.pin(row).worklogs, worklog_id)
            worklog |= {"timeSpentSeconds": seconds, "timeSpent": f"{seconds // 60}m"}
            worklog |= {
                "updateAuthor": self._person(when.get("by")),
                "updated": self._stamp(row, when.get("at")),
            }
            return worklog

    def delete_worklog(self, issue: str | int, worklog_id: str, **when: Unpack[When]) -> None:
        """Delete a worklog; the history and the list of deleted worklogs record it."""
        with self._site.lock:
            row = self._row(issue)
            worklogs = self._site.pin(row).worklogs
            worklogs.remove(_one(worklogs, worklog_id))
            timestamp = self._now(when.get("at"))
            self._site.deleted_worklogs.append((timestamp, int(worklog_id)))
            gone = item("WorklogId", (worklog_id, worklog_id), (None, None))
            self.add_history(row.id, [gone], at=timestamp, by=when.get("by"))

    def _row(self, issue: str | int) -> Row:
        row = self._site.find(str(issue))
        if row is None:
            raise LookupError(f"there is no issue {issue}")
        return row

    def _now(self, at: int | None) -> int:
        return self._site.clock() if at is None else at

    def _stamp(self, row: Row, at: int | None) -> int:
        """Record a change; `updated` never goes back, however old the change is."""
        timestamp = self._now(at)
        content = self._site.pin(row)
        row.updated = max(row.updated, timestamp)
        content.fields["updated"] = row.updated
        self._site.changed(row)
        return timestamp

    def _person(self, user: str | None) -> Json | None:
        found: User | None = self._site.users[user] if user else self._site.owner
        return found.person if found else None

    def _name(self, user: str | None) -> str | None:
        return self._site.users[user].name if user in self._site.users else None

    def _id(self) -> str:
        return str(next(self._ids))


def _one(entries: list[Json], id_: str) -> Json:
    for entry in entries:
        if str(entry["id"]) == id_:
            return entry
    raise LookupError(f"there is no entry {id_}")
