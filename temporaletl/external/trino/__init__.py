"""Trino: who asks, what is asked, in which order, and what the values mean."""
