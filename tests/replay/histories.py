"""The recorded histories: where they are, and what may stand in them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from temporalio.client import WorkflowHistory

FOLDER = Path(__file__).parent / "histories"
RECORDER = "recorder"


@dataclass(frozen=True)
class Recorded:
    """One run of one workflow of a scenario."""

    workflow: str
    scenario: str
    number: int  # several of one workflow in a scenario count from 1
    folder: Path = FOLDER

    @property
    def file(self) -> Path:
        return self.folder / f"{self.workflow}-{self.scenario}-{self.number}.json"

    @classmethod
    def of(cls, file: Path) -> Self:
        workflow, _, rest = file.stem.partition("-")
        scenario, _, number = rest.rpartition("-")
        return cls(workflow, scenario, int(number), file.parent)

    def __str__(self) -> str:
        return self.file.stem


def recorded(folder: Path = FOLDER) -> list[Recorded]:
    """All histories there are, in order."""
    return sorted((Recorded.of(file) for file in folder.glob("*.json")), key=str)


def read(history: Recorded) -> WorkflowHistory:
    return WorkflowHistory.from_json(str(history), history.file.read_text())


def write(history: Recorded, present: WorkflowHistory) -> None:
    """Keep a history, one event a line, without what only tells of the recording machine."""
    events = scrubbed(present.to_json_dict())["events"]
    lines = ",\n".join(json.dumps(event, sort_keys=True) for event in events)
    history.file.parent.mkdir(exist_ok=True)
    history.file.write_text(f'{{"events": [\n{lines}\n]}}\n')


def scrubbed(value: Any) -> Any:
    """The same history of a nameless worker: no process or host, no place in a file."""
    if isinstance(value, list):
        return [scrubbed(each) for each in value]
    if not isinstance(value, dict):
        return value
    cleaned = {name: scrubbed(each) for name, each in value.items() if name != "stackTrace"}
    if "identity" in cleaned and "@" in cleaned["identity"]:
        cleaned["identity"] = RECORDER
    if cleaned.get("kind") == "TASK_QUEUE_KIND_STICKY":
        cleaned["name"] = RECORDER
    return cleaned


def texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All texts of a history with the names of their fields."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from texts(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each, name)
    elif isinstance(value, str):
        yield name, value
