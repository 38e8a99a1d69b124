from tests.integration.web.stack import dashboard

__all__ = ["dashboard"]
