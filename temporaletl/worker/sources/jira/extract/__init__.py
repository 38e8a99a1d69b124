"""Extraction of issues: keyset pagination over a range, and the complete lists of each issue."""
