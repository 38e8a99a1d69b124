"""The warehouse as both services see it: connections, the ledger, and the sync state."""
