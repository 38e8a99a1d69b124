"""The catalogues of a site: projects, statuses, types, priorities, fields."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


def _category(number: int, key: str, colour: str, name: str) -> Json:
    return {"id": number, "key": key, "colorName": colour, "name": name}


_NEW = _category(2, "new", "blue-gray", "To Do")
_DOING = _category(4, "indeterminate", "yellow", "In Progress")
_DONE = _category(3, "done", "green", "Done")

STATUSES: dict[str, Json] = {
    name: {"id": number, "name": name, "description": "", "statusCategory": category}
    for number, name, category in (
        ("10000", "To Do", _NEW),
        ("3", "In Progress", _DOING),
        ("10001", "In Review", _DOING),
        ("10002", "Blocked", _DOING),
        ("10003", "Done", _DONE),
        ("10004", "Gelöst", _DONE),
    )
}

ISSUE_TYPES: dict[str, Json] = {
    name: {"id": number, "name": name, "description": "", "subtask": False, "hierarchyLevel": level}
    for number, name, level in (
        ("10001", "Story", 0),
        ("10002", "Task", 0),
        ("10004", "Bug", 0),
        ("10000", "Epic", 1),
    )
}

PRIORITIES: dict[str, Json] = {
    name: {"id": number, "name": name}
    for number, name in (("1", "Highest"), ("2", "High"), ("3", "Medium"), ("4", "Low"))
}

RESOLUTIONS: dict[str, Json] = {
    name: {"id": number, "name": name, "description": ""}
    for number, name in (("10000", "Done"), ("10001", "Won't Do"), ("10002", "Duplicate"))
}


def field_of(
    id_: str, name: str, kind: str, *, clauses: tuple[str, ...] | None = None, items: str = ""
) -> Json:
    """Return a field's definition as the field list shows it."""
    custom = id_.startswith("customfield_")
    schema: Json = {"type": kind}
    if items:
        schema["items"] = items
    if custom:
        schema["custom"] = f"com.atlassian.jira.plugin.system.customfieldtypes:{kind}"
        schema["customId"] = int(id_.removeprefix("customfield_"))
        clauses = (f"cf[{schema['customId']}]", name)
    else:
        schema["system"] = id_
    return {
        "id": id_,
        "key": id_,
        "name": name,
        "custom": custom,
        "orderable": True,
        "navigable": id_ not in {"comment", "worklog", "attachment", "timetracking"},
        "searchable": True,
        "clauseNames": list(clauses or (id_,)),
        "schema": schema,
    }


SYSTEM_FIELDS: list[Json] = [
    field_of("issuekey", "Key", "string", clauses=("id", "issue", "issuekey", "key")),
    field_of("summary", "Summary", "string"),
    field_of("description", "Description", "string"),
    field_of("issuetype", "Issue Type", "issuetype", clauses=("issuetype", "type")),
    field_of("project", "Project", "project"),
    field_of("status", "Status", "status"),
    field_of("statuscategorychangedate", "Status Category Changed", "datetime"),
    field_of("priority", "Priority", "priority"),
    field_of("resolution", "Resolution", "resolution"),
    field_of("resolutiondate", "Resolved", "datetime", clauses=("resolutiondate", "resolved")),
    field_of("creator", "Creator", "user"),
    field_of("reporter", "Reporter", "user"),
    field_of("assignee", "Assignee", "user"),
    field_of("created", "Created", "datetime", clauses=("created", "createdDate")),
    field_of("updated", "Updated", "datetime", clauses=("updated", "updatedDate")),
    field_of("duedate", "Due date", "date", clauses=("due", "duedate")),
    field_of("labels", "Labels", "array", items="string"),
    field_of("components", "Components", "array", clauses=("component",), items="component"),
    field_of("fixVersions", "Fix versions", "array", clauses=("fixVersion",), items="version"),
    field_of("versions", "Affects versions", "array", items="version"),
    field_of("environment", "Environment", "string"),
    field_of("parent", "Parent", "issuelink"),
    field_of("subtasks", "Sub-tasks", "array", items="issuelinks"),
    field_of("issuelinks", "Linked Issues", "array", items="issuelinks"),
    field_of("timespent", "Time Spent", "number"),
    field_of("timeestimate", "Remaining Estimate", "number"),
    field_of("timetracking", "Time tracking", "timetracking"),
    field_of("attachment", "Attachment", "array", items="attachment"),
    field_of("comment", "Comment", "comments-page"),
    field_of("worklog", "Log Work", "array", items="worklog"),
    field_of("votes", "Votes", "votes"),
    field_of("watches", "Watchers", "watches"),
]


@dataclass
class Catalogue:
    """One site's catalogues by name (projects by key, custom fields by id)."""

    projects: dict[str, Json] = field(default_factory=dict)
    statuses: dict[str, Json] = field(default_factory=lambda: dict(STATUSES))
    issue_types: dict[str, Json] = field(default_factory=lambda: dict(ISSUE_TYPES))
    priorities: dict[str, Json] = field(default_factory=lambda: dict(PRIORITIES))
    resolutions: dict[str, Json] = field(default_factory=lambda: dict(RESOLUTIONS))
    custom_fields: dict[str, Json] = field(default_factory=dict)
