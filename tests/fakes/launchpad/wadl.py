"""The service's description of itself: launchpadlib's own, with what that one lacks.

The installed library brings the description of version 1.0 for its tests. Questions can be
searched for in the development version only, which is described here as far as we serve it.
Clients take most of a small load's time to parse all of it: in `brief` it is about no more than
what is read here, and by nobody's words.
"""

import re
from functools import cache
from importlib.resources import files

_BASE = "https://api.launchpad.test/1.0/"
#: What is read here; in brief no other kind is described.
_READ = {
    "branch_merge_proposal",
    "bug",
    "bug_task",
    "distribution",
    "distribution_source_package",
    "people",
    "person",
    "project",
    "project_group",
    "question",
    "service-root",
    "team",
}
#: All that describes one kind, as a type or in one of its forms.
_DESCRIBED = re.compile(
    r'<wadl:(representation|resource_type)\b[^>]*\bid="([^"]+?)'
    r'(?:-full|-json)?"(?:[^>]*/>|[^>]*>.*?</wadl:\1>)',
    re.DOTALL,
)
_PROSE = re.compile(r"<wadl:doc\b[^>]*(?<=/)>|<wadl:doc\b.*?</wadl:doc>", re.DOTALL)
_WRITING = re.compile(
    r'<wadl:method\b[^>]*\bname="(?:POST|PUT|PATCH|DELETE)"(?:[^>]*/>|[^>]*>.*?</wadl:method>)',
    re.DOTALL,
)
#: What questions can be searched for in.
_SEARCHABLE = (
    "person",
    "team",
    "project",
    "project_group",
    "distribution",
    "distribution_source_package",
)
_OPTIONS = {
    "status": ("Open", "Needs information", "Answered", "Solved", "Expired", "Invalid"),
}
_FIELDS = (
    "id",
    "title",
    "description",
    "status",
    "owner_link",
    "assignee_link",
    "answerer_link",
    "target_link",
    "date_created",
    "date_last_query",
    "date_last_response",
    "date_solved",
    "messages_collection_link",
)
_SORTS = (
    "by relevancy",
    "by status",
    "newest first",
    "oldest first",
    "recently updated first",
)


def describe(version: str, base_url: str, *, brief: bool = False) -> bytes:
    """Return the description (WADL) of a version served under an address."""
    return _described(version, brief=brief).replace(_BASE, f"{base_url}/{version}/").encode()


@cache
def _described(version: str, *, brief: bool) -> str:
    text = (files("launchpadlib") / "testing" / "launchpad-wadl.xml").read_text("utf-8")
    # What is only there to be read by people takes most of the time.
    text = _PROSE.sub("", text)
    if brief:
        text = _WRITING.sub("", text)
        text = _DESCRIBED.sub(lambda found: found[0] if found[2] in _READ else "", text)
        text = re.sub(r">\s+<", "><", text)
    return _with_questions(text) if version == "devel" else text


def _with_questions(text: str) -> str:
    for kind in _SEARCHABLE:
        text = _before_end(
            text, f'<wadl:resource_type id="{kind}">', "resource_type", _search(kind)
        )
    start = '<wadl:representation mediaType="application/json" id="question-full">'
    return _before_end(text, start, "representation", "".join(map(_field, _FIELDS)))


def _before_end(text: str, start: str, element: str, more: str) -> str:
    """Put more into an element, before its end."""
    begins = text.index(start)
    ends = text.index(f"</wadl:{element}>", begins)
    return text[:ends] + more + text[ends:]


def _search(kind: str) -> str:
    options = "".join(f'<wadl:option value="{value}"/>' for value in _SORTS)
    return (
        f'<wadl:method id="{kind}-searchQuestions" name="GET"><wadl:request>'
        '<wadl:param style="query" name="ws.op" required="true" fixed="searchQuestions"/>'
        '<wadl:param style="query" name="search_text" required="false"/>'
        '<wadl:param style="query" name="status" required="false"/>'
        f'<wadl:param style="query" name="sort" required="false">{options}</wadl:param>'
        "</wadl:request><wadl:response>"
        f'<wadl:representation href="{_BASE}#question-page"/>'
        "</wadl:response></wadl:method>"
    )


def _field(name: str) -> str:
    options = "".join(f'<wadl:option value="{value}"/>' for value in _OPTIONS.get(name, ()))
    kind = ' type="xsd:dateTime"' if name.startswith("date_") else ""
    links = {"owner": "person", "assignee": "person", "answerer": "person", "target": "project"}
    linked = links.get(name.removesuffix("_link"))
    link = f'<wadl:link resource_type="{_BASE}#{linked}"/>' if linked else ""
    return (
        f'<wadl:param style="plain" required="true" name="{name}" '
        f"path=\"$['{name}']\"{kind}>{options}{link}</wadl:param>"
    )
