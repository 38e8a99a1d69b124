"""The load stage: pages of rows into PostgreSQL, each with an exactly-once effect."""

from temporaletl.worker.loading.pages import Lineage, Loader, PageLoad, PageSupersededError
from temporaletl.worker.loading.scans import JobScan

__all__ = ["JobScan", "Lineage", "Loader", "PageLoad", "PageSupersededError"]
