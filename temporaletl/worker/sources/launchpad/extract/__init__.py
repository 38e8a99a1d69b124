"""Reading from Launchpad: which entries concern a job, and all that hangs on each of them."""
