"""Source `trino`: the rows of any configured query, as events."""
