"""Extraction from Launchpad: which entries concern a job, and the lists of each entry."""
