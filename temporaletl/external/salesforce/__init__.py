"""Salesforce, over REST; the bulk API is the worker's alone."""
