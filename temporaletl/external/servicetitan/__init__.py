"""ServiceTitan, over its lists and its export feeds."""
