"""Changelog events: one for each changed field of each history of an issue."""

from collections import Counter
from collections.abc import Iterator, Sequence

from xxhash import xxh3_64_hexdigest

from temporaletl import Event, TransformContext
from temporaletl.worker.sources.jira.issue import IssueRecord, Item
from temporaletl.worker.sources.jira.people import employee_of, profile_of
from temporaletl.worker.sources.jira.query import JiraQuery
from temporaletl.worker.sources.jira.timestamps import utc

_TYPES = {
    field: f"{field}_changed"
    for field in (
        "status",
        "assignee",
        "priority",
        "resolution",
        "summary",
        "description",
        "labels",
    )
}


def changes(record: IssueRecord, context: TransformContext[JiraQuery]) -> Iterator[Event]:
    """Yield the events of a record's complete changelog.

    Raises:
        RecordError: a history has no time.
    """
    issue_id, key = record.id, record.key
    for history in record.histories:
        items = history.items
        if not items:
            continue
        author = history.author
        timestamp = utc(history.created)
        profile, employee = profile_of(author), employee_of(author, context)
        prefix = f"{issue_id}:changelog:{history.id}:"
        for item, item_key in zip(items, item_keys(items), strict=True):
            yield Event(
                event_id=prefix + item_key,
                event_type=type_of(item),
                event_time_utc=timestamp,
                parent_item_id=key,
                relation_type="author",
                person=profile.person,
                employee_id=employee,
                timezone=profile.timezone,
                event_properties={
                    "field": item.field,
                    "field_id": item.field_id,
                    "field_type": item.fieldtype,
                    "from": item.from_,
                    "from_string": item.from_string,
                    "to": item.to,
                    "to_string": item.to_string,
                },
                relation_properties=profile.properties.copy(),
            )


def type_of(item: Item) -> str:
    """Return the event type of a change.

    The id identifies system fields, for their names are translated; Data Center gives no ids, and
    names system fields in English. A custom field may be called anything, even `status`.
    """
    if (known := _TYPES.get(item.field_id or "")) is not None:
        return known
    name = (item.field or "").lower()
    if not item.field_id and item.fieldtype != "custom" and name in _TYPES:
        return _TYPES[name]
    return "sprint_changed" if name == "sprint" else "field_changed"


def item_keys(items: Sequence[Item]) -> list[str]:
    """Return a key for each item of one history, the same in whatever order they are listed."""
    keys = [_digest(item) for item in items]
    if len(keys) == 1 or len(set(keys)) == len(keys):
        return keys
    often = Counter(keys)
    alike: Counter[str] = Counter()
    unique: list[str] = []
    for item, key in zip(items, keys, strict=True):
        if often[key] == 1:
            unique.append(key)
            continue
        fuller = _digest(item, with_texts=True)
        # Items that are alike in everything can be numbered in any order.
        alike[fuller] += 1
        unique.append(f"{fuller}:{alike[fuller]}" if alike[fuller] > 1 else fuller)
    return unique


def _digest(item: Item, *, with_texts: bool = False) -> str:
    before, after = item.from_, item.to
    # An empty text is not the absence of one.
    text = (
        f"{item.field_id or item.field}"
        f"\x1f{'' if before is None else f'={before}'}\x1f{'' if after is None else f'={after}'}"
    )
    # Texts of values that have ids are left out where they can be: people are renamed.
    if with_texts or (before is None and after is None):
        before, after = item.from_string, item.to_string
        text += (
            f"\x1f{'' if before is None else f'={before}'}"
            f"\x1f{'' if after is None else f'={after}'}"
        )
    return xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))
