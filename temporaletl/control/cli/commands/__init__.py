"""The `etl` commands: arguments and options; output and work are beside this package.

Nothing heavy is imported here before a command runs: the help appears at once.
"""
