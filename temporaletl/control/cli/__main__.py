"""`python -m temporaletl.control.cli`, the same as `etl`."""

from temporaletl.control.cli.main import main

main()
