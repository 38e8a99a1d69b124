"""The dashboard: pages over operations, rendered here and readable without JavaScript."""
