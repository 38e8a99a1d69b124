"""The backlog of source `salesforce`."""
