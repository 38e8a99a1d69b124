"""Planning of source `jira`: ranges of issues as jobs."""
