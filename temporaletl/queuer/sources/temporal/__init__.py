"""The backlog of source `temporal`."""
