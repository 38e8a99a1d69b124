"""Pipelines: node graphs that users define, run durably, and load as every source does."""
