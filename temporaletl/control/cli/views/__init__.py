"""Output of the commands, and progress while they run."""
