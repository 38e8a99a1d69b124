"""Launchpad, over its web service."""
