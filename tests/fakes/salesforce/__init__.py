"""A fake Salesforce org: logins, SOQL over REST, and the Bulk API 2.0."""

from tests.fakes.salesforce.generate import generate
from tests.fakes.salesforce.login import Doors
from tests.fakes.salesforce.org import Org
from tests.fakes.salesforce.service import serve
from tests.fakes.salesforce.truth import truth

__all__ = ["Doors", "Org", "generate", "serve", "truth"]
