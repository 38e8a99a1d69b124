"""Jira's backlog as jobs."""
