"""Language models that nodes ask."""
