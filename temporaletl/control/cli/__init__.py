"""The `etl` command: one front over the operations."""
