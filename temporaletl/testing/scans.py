"""In-memory deletion scans, for tests of a source's own scan."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from pydantic import JsonValue

from temporaletl.deletions import Items
from temporaletl.extraction import Page
from temporaletl.rows import CompleteSet, Finding, ScanItems


class MemoryScan:
    """In-memory `ScanStore` of a warehouse that holds events with these ids.

    `take` loads a page; `deleted` lists the ids that it found deleted.
    """

    def __init__(
        self, stored: Callable[[], Collection[str]], *, scope: Collection[str] = ()
    ) -> None:
        self.findings: dict[str, Finding] = {}
        self.scope = set(scope)
        self.lacking: str | None = None
        self.over = False
        self.intact = True
        self.kept: set[str] = set()
        self.deleted: list[str] = []
        self._stored = stored

    def take(self, page: Page) -> None:
        for record in page.records:
            if isinstance(record, ScanItems):
                self.findings.update(dict.fromkeys(record.ids, record.finding))
            elif isinstance(record, CompleteSet):
                self.deleted.append(record.prefix)

    def resume(self, *, list_alone: bool) -> JsonValue:  # noqa: ARG002 - no job was before this one
        self.findings.clear()
        self.intact = True
        return None

    def is_intact(self) -> bool:
        return self.intact

    def is_over(self) -> bool:
        return self.over

    def now(self) -> datetime:
        return datetime.now(UTC)

    def lacking_view(self) -> str | None:
        return self.lacking

    def has_stored(self, items: Items) -> bool:
        return any(id_.startswith(items.prefix) for id_ in self._stored())

    def narrowed_scope(self, scope: Collection[str]) -> list[str]:
        return sorted(self.scope.difference(scope))

    def compare(
        self,
        items: Items,
        since: datetime,  # noqa: ARG002 - all were before it
        *,
        with_kept: bool,
    ) -> int:
        ids = {
            id_.removeprefix(items.prefix) for id_ in self._stored() if id_.startswith(items.prefix)
        }
        if not items.exact:
            ids = {id_.partition(":")[0] for id_ in ids}
        eligible = ids if with_kept else ids - self.kept
        for id_ in eligible:
            self.findings.setdefault(id_, "missing")
        return len(eligible)

    def count(self, finding: Finding) -> int:
        return list(self.findings.values()).count(finding)

    def found(self, finding: Finding, most: int) -> list[str]:
        return sorted(id_ for id_, found in self.findings.items() if found == finding)[:most]

    def keep_missing(self) -> int:
        missing = self.found("missing", len(self.findings))
        self.findings.update(dict.fromkeys(missing, "kept"))
        return len(missing)

    def finish(self, scope: Collection[str]) -> None:
        self.scope = set(scope)
        self.kept |= set(self.found("kept", len(self.findings)))
