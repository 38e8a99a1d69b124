"""A connections file of one Jira site, for tests to change."""

from pathlib import Path

ACME = """
    [acme]
    source = "jira"
    JIRA_URL = "https://acme.example.com"
    JIRA_EMAIL = "loader@acme.example.com"
    JIRA_API_TOKEN = { env = "ACME_TOKEN" }
    JIRA_PAGE_SIZE = 50
"""
TOKEN = "acme-token-of-a-test"


class ConnectionsFile:
    """The file that ETL_CONNECTIONS names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        self.path.write_text("\n".join(line.strip() for line in text.splitlines()))
