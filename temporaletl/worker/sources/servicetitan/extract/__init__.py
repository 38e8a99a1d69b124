"""Reading ServiceTitan: its feeds of changes, and its lists."""
