"""The `etl` commands: what they take and what they print; the work is done beside this package.

Nothing heavy is imported here before a command runs: the help appears at once.
"""
