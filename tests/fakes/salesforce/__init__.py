"""A fake Salesforce org: logins, SOQL over REST, and the Bulk API 2.0."""

from tests.fakes.salesforce.expected_counts import expected_counts
from tests.fakes.salesforce.generate import generate
from tests.fakes.salesforce.login import Doors
from tests.fakes.salesforce.org import Org
from tests.fakes.salesforce.service import serve

__all__ = ["Doors", "Org", "expected_counts", "generate", "serve"]
