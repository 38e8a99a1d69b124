"""The soak: all sources over changing data, disturbed in every way that a seed draws.

`scripts/soak` runs it; each round ends undisturbed, and then what the platform promises must hold.
"""
