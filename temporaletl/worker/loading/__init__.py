"""The load stage: pages of rows into PostgreSQL, each with an exactly-once effect."""

from temporaletl.worker.loading.fence import PageSupersededError
from temporaletl.worker.loading.pages import Lineage, Loader, PageLoad
from temporaletl.worker.loading.scans import JobScan
from temporaletl.worker.loading.stored import JobEvents

__all__ = ["JobEvents", "JobScan", "Lineage", "Loader", "PageLoad", "PageSupersededError"]
