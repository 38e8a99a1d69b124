"""Planning of source `launchpad`: slices of members, and targets, as jobs."""
