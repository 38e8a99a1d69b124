"""Segments of a small source, with the real loader and ledger."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any

import pytest

from temporaletl import strategies
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import SegmentResult
from temporaletl.query import Query
from temporaletl.rows import Event, Row
from temporaletl.strategies import Transformer
from temporaletl.transformation import TransformContext
from temporaletl.worker.segment import SegmentLimits, run_segment
from tests.integration.loading.jobs import Job
from tests.registries import forget_sources

type Extract = Callable[[PageRequest[AnyQuery]], AsyncGenerator[Page]]


class AnyQuery(Query):
    """Takes nothing."""


class Listener:
    """Asks the segment to stop behind so many pages."""

    def __init__(self, stop_behind: int | None) -> None:
        self.stopping = asyncio.Event()
        self._left = stop_behind

    def report(self, _progress: object) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.stopping.set()


def as_it_is(record: Any, _context: TransformContext[AnyQuery]) -> list[Any]:
    """Records are rows already."""
    return [record]


def register(
    monkeypatch: pytest.MonkeyPatch,
    extract: Extract,
    transform: Callable[[Any, TransformContext[AnyQuery]], list[Any]] = as_it_is,
    rows: tuple[type[Row], ...] = (Event,),
) -> None:
    """Make it the source of `Job`'s jobs, and the only one."""
    forget_sources(monkeypatch)
    strategies.queries.register("jira", AnyQuery, place="here")
    strategies.extractors.register("jira-issues", extract, place="here")
    strategies.transformers.register("jira", Transformer(transform, rows), place="here")


async def run(
    job: Job, *, stop_behind: int | None = None, rows_per_page: int = 1, **limits: Any
) -> SegmentResult:
    """Run one segment; by default each extracted page is a transaction."""
    async with asyncio.timeout(120):
        return await run_segment(
            job.input,
            warehouse=job.warehouse,
            workflow_id=job.lineage.workflow_id,
            run_id=job.lineage.run_id,
            limits=SegmentLimits(timedelta(seconds=30), rows_per_page, **limits),
            progress=Listener(stop_behind),
        )
