"""The expected counts of a site: the events that a complete load holds."""

from collections import Counter
from dataclasses import dataclass, field, fields

from tests.fakes.jira.site import Json, Site
from tests.fakes.jira.timestamps import parse


@dataclass
class ExpectedCounts:
    """The number of events of each kind that a site holds."""

    issues_created: int = 0
    histories: int = 0
    changelog_items: int = 0
    comments_created: int = 0
    comments_edited: int = 0
    worklogs_created: int = 0
    worklogs_edited: int = 0
    #: Changelog items by the field's id, or its name where the site gives no id.
    items_by_field: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """All events together; a history is not one, its items are."""
        return (
            self.issues_created
            + self.changelog_items
            + self.comments_created
            + self.comments_edited
            + self.worklogs_created
            + self.worklogs_edited
        )

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Return all numbers by name, as JSON can hold them."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**named, "items_by_field": dict(self.items_by_field), "events": self.events}


def expected_counts(site: Site) -> ExpectedCounts:
    """Count a site's events. Reads every issue: about a second for 5,000 generated ones."""
    counts = ExpectedCounts()
    with site.lock:
        rows = list(site.rows)
    for row in rows:
        with site.lock:
            issue = site.issue(row)
            counts.issues_created += 1
            counts.histories += len(issue.histories)
            for history in issue.histories:
                items = history.get("items") or []
                counts.changelog_items += len(items)
                counts.items_by_field.update(
                    item.get("fieldId") or item.get("field") or "" for item in items
                )
            counts.comments_created += len(issue.comments)
            counts.comments_edited += sum(map(edited, issue.comments))
            counts.worklogs_created += len(issue.worklogs)
            counts.worklogs_edited += sum(map(edited, issue.worklogs))
    return counts


def edited(entry: Json) -> bool:
    """Whether a comment or worklog was changed after its creation."""
    created, updated = entry.get("created"), entry.get("updated")
    return created is not None and updated is not None and parse(created) != parse(updated)
