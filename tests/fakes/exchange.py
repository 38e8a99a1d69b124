"""Requests, responses and traffic of a fake, from the suite that authors use as well."""

from temporaletl.testing.fakes.exchange import REASONS, Exchange, Request, Response, Traffic

__all__ = ["REASONS", "Exchange", "Request", "Response", "Traffic"]
