"""Reading issues: the walk over a range, the complete lists of each issue, the pages."""
