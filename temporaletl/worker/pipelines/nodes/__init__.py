"""Types of nodes: what `data` of each may hold, in which fields expressions stand."""
