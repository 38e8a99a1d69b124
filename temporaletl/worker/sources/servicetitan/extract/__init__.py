"""Extraction from ServiceTitan: its export feeds, and its lists."""
