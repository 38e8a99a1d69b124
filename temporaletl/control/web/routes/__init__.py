"""The dashboard's pages, one module for each noun; each is a few lines over an operation."""
