"""Processes of the services: started, watched, ready, drained and ended."""
