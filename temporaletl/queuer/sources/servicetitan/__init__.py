"""Planning of source `servicetitan`: one job for each stream."""
