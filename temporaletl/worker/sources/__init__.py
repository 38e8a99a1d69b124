"""The extraction of the sources, one package each; all are imported at start-up."""
