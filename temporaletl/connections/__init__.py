"""Named connections of sources: declared, found by name, and bound to what runs."""
