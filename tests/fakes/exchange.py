"""What passes between a client and a fake; the fakes of every source's author use it as well."""

from temporaletl.testing.fakes.exchange import REASONS, Exchange, Request, Response, Traffic

__all__ = ["REASONS", "Exchange", "Request", "Response", "Traffic"]
