"""Temporal, as both services use it: clients, payload encryption, errors, builds."""
