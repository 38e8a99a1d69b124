"""What nodes do, type by type: each step gets a `NodeContext`, and gives a result or a wait."""
