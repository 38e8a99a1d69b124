"""The load stage: pages of rows into PostgreSQL, each with an exactly-once effect."""

from worker.loading.pages import Lineage, Loader, PageLoad, PageSupersededError
from worker.loading.scans import JobScan

__all__ = ["JobScan", "Lineage", "Loader", "PageLoad", "PageSupersededError"]
