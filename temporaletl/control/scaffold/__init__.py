"""Skeletons of new sources."""
