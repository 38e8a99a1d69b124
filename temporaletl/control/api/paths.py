"""Names in paths: ids of runs, jobs and workflows, which may have slashes in them."""

from typing import Annotated

from fastapi import Path
from starlette.convertors import Convertor, register_url_convertor

#: What stands behind a name, and so ends none.
_BEHIND = ("cancel", "jobs", "log", "pages", "pause", "result", "resume", "retry")


class _NameConvertor(Convertor[str]):
    """One part of a path or several, as `job/jira-issues-full-0f8d2c1b5e6a7f90`."""

    regex = f"[^/]+(?:/(?!(?:{'|'.join(_BEHIND)})$)[^/]+)*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


#: Paths name it as `{run:name}`.
register_url_convertor("name", _NameConvertor())

RunName = Annotated[
    str,
    Path(
        description="a run's workflow id or batch id",
        max_length=500,
        examples=["etl-jira-full-20261127T180000.000000Z"],
    ),
]
WorkflowName = Annotated[
    str,
    Path(
        description="a workflow, batch or job id",
        max_length=500,
        examples=["etl-jira-full-20261127T180000.000000Z"],
    ),
]
