"""Notifications: what happened to runs and streams, told to Slack, webhooks and other services."""
