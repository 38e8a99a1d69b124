"""Launchpad's backlog as jobs: slices of members, and targets."""
