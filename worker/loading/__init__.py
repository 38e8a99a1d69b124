"""The load stage: pages of rows into PostgreSQL, each with an exactly-once effect."""

from worker.loading.pages import Lineage, Loader, PageLoad, PageSupersededError

__all__ = ["Lineage", "Loader", "PageLoad", "PageSupersededError"]
