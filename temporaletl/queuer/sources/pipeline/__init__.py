"""The job of source `pipeline`: the rows that a node of an execution loads."""
