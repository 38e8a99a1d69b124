"""The rows that nodes of pipelines load."""
