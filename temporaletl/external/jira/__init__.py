"""Jira, over its API and from a dataset in Trino."""
