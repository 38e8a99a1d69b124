"""Source `temporal`: the workflow executions of any namespace."""
