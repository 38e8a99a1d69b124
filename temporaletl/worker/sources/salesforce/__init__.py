"""Source `salesforce`: what happened to an org's cases, opportunities, tasks and events."""
