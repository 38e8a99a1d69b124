"""How each source is served to the standard suite."""
