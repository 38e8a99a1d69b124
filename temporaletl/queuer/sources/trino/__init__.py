"""Planning of source `trino`: slices of streams' windows as jobs."""
