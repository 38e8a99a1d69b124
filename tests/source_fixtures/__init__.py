"""Source fixtures: the sources as the standard suite is served with them."""
