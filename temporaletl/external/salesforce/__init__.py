"""The Salesforce connector, over REST; the Bulk API is in the worker."""
