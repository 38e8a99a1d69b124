"""The dashboard in a real browser, beside both services; one stack for all its tests."""
