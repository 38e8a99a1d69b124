"""The streams of source `trino` as jobs."""
