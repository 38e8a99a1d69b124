"""Source `jira`: what happened to the issues of a Jira site, Cloud or Data Center."""
