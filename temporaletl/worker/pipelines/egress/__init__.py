"""Requests that pipelines send: to hosts that are allowed, at addresses that were judged."""
