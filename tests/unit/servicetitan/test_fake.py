"""The fake ServiceTitan lets in, lists, exports and refuses as the service does."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import Tenant, expected_counts, generate, load, serve
from tests.fakes.servicetitan.__main__ import COMMAND
from tests.fakes.servicetitan.load import DataError
from tests.fakes.servicetitan.timestamps import SECOND, parse, text

Json = dict[str, Any]


class Client:
    """Speaks plain HTTP to the fake, with a good token and app key."""

    def __init__(self, server: FakeServer, tenant: Tenant) -> None:
        self.server, self.tenant, self.number = server, tenant, tenant.number
        self.session = requests.Session()
        answer = self.login()
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self.session.headers["ST-App-Key"] = "ak1.fake"

    def login(self, **change: str) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": "cid.fake",
            "client_secret": "cs1.fake",
        }
        url = f"{self.server.url}/connect/token"
        return self.session.post(url, data=form | change, timeout=60)

    def raw(self, path: str, **params: Any) -> requests.Response:
        module, _, rest = path.partition("/")
        url = f"{self.server.url}/{module}/v2/tenant/{self.number}/{rest}"
        return self.session.get(url, params=params, timeout=60)

    def get(self, path: str, **params: Any) -> Json:
        answer = self.raw(path, **params)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def feed(self, path: str, **params: Any) -> list[Json]:
        found: list[Json] = []
        while True:
            page = self.get(path, **params)
            found += page["data"]
            params["from"] = page["continueFrom"]
            if not page["hasMore"]:
                return found


@pytest.fixture
def tenant() -> Tenant:
    return generate(60, seed=3)


@pytest.fixture
def client(tenant: Tenant) -> Iterator[Client]:
    with serve(tenant, export_rows=7) as server:
        made = Client(server, tenant)
        with made.session:
            yield made


PATHS = {
    "customers": "crm/customers",
    "jobs": "jpm/jobs",
    "invoices": "accounting/invoices",
    "estimates": "sales/estimates",
}


@pytest.mark.parametrize("stream", PATHS)
def test_lists_have_only_active_records_unless_told_otherwise(client: Client, stream: str) -> None:
    counts = expected_counts(client.tenant)
    for active, expected in (
        (None, counts.records[stream] - counts.inactive[stream]),
        ("True", counts.records[stream] - counts.inactive[stream]),
        ("Any", counts.records[stream]),
        ("False", counts.inactive[stream]),
    ):
        page = client.get(PATHS[stream], active=active, includeTotal="true")
        assert page["totalCount"] == expected
    assert len(client.get(PATHS[stream])["data"]) == 50


def test_pages_follow_each_other(client: Client) -> None:
    pages = [client.get("jpm/jobs", active="Any", pageSize=25, page=n) for n in (1, 2, 3, 4)]
    assert [page["hasMore"] for page in pages] == [True, True, False, False]
    assert [len(page["data"]) for page in pages] == [25, 25, 10, 0]
    assert len({each["id"] for page in pages for each in page["data"]}) == 60
    assert (pages[1]["page"], pages[1]["pageSize"], pages[1]["totalCount"]) == (2, 25, None)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"pageSize": 5001}, "pageSize"),
        ({"pageSize": 0}, "pageSize"),
        ({"page": 0}, "page"),
        ({"page": "x"}, "page"),
        ({"active": "maybe"}, "active"),
        ({"modifiedOnOrAfter": "yesterday"}, "modifiedOnOrAfter"),
        ({"sort": "+Name"}, "sort"),
        ({"includeTotal": "perhaps"}, "includeTotal"),
    ],
)
def test_wrong_parameters_are_named_as_problems(client: Client, params: Json, name: str) -> None:
    answer = client.raw("jpm/jobs", **params)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "traceId", "errors", "data"}
    assert list(problem["errors"]) == [name]


def test_the_largest_page_is_taken(client: Client) -> None:
    assert len(client.get("crm/customers", active="Any", pageSize=5000)["data"]) == 60


def test_filters_by_time_include_their_beginning_only(client: Client) -> None:
    rows = client.tenant.collections["jobs"].sorted("modified")
    since, before = text(rows[10].modified), text(rows[20].modified)
    page = client.get("jpm/jobs", active="Any", modifiedOnOrAfter=since, modifiedBefore=before)
    assert {each["id"] for each in page["data"]} == {row.id for row in rows[10:20]}
    created = client.tenant.collections["jobs"].sorted("created")[5]
    page = client.get("jpm/jobs", active="Any", createdBefore=text(created.created))
    assert len(page["data"]) == 5


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("crm/customers", {"sort": "-ModifiedOn"}),
        ("accounting/invoices", {"orderBy": "ModifiedOn", "orderByDirection": "desc"}),
    ],
)
def test_lists_keep_the_order_they_are_asked_for(client: Client, path: str, order: Json) -> None:
    times = [each["modifiedOn"] for each in client.get(path, active="Any", **order)["data"]]
    assert [parse(time) for time in times] == sorted(map(parse, times), reverse=True)


def test_a_feed_gives_all_there_is_in_the_order_of_changes(client: Client) -> None:
    found = client.feed("sales/export/estimates")
    assert len(found) == 60
    assert [parse(each["modifiedOn"]) for each in found] == sorted(
        parse(each["modifiedOn"]) for each in found
    )
    rows = client.tenant.collections["estimates"].sorted("modified")
    since = client.feed("sales/export/estimates", **{"from": text(rows[40].modified)})
    assert [each["id"] for each in since] == [row.id for row in rows[40:]]


def test_a_feed_goes_on_from_its_last_token(client: Client) -> None:
    tenant = client.tenant
    page = client.get("jpm/export/jobs", **{"from": "2025-12-01"})
    assert (page["data"], page["hasMore"]) == ([], False)
    row = tenant.collections["jobs"].sorted("id")[3]
    tenant.change("jobs", row, summary="now")
    again = client.get("jpm/export/jobs", **{"from": page["continueFrom"]})
    assert again["data"] == []  # withheld for some minutes
    recent = client.get(
        "jpm/export/jobs", **{"from": page["continueFrom"], "includeRecentChanges": "true"}
    )
    assert [each["summary"] for each in recent["data"]] == ["now"]
    tenant.withheld_seconds = 0
    later = client.get("jpm/export/jobs", **{"from": again["continueFrom"]})
    assert [each["id"] for each in later["data"]] == [row.id]


def test_what_is_stored_late_is_late_in_the_feed(client: Client) -> None:
    tenant = client.tenant
    tenant.withheld_seconds = 0
    token = client.get("jpm/export/jobs", **{"from": "2025-12-01"})["continueFrom"]
    late = tenant.add("jobs", at=tenant.clock() - 3_600 * SECOND)
    assert [each["id"] for each in client.feed("jpm/export/jobs", **{"from": token})] == [late.id]


def test_a_deleted_record_is_in_the_feed_alone(client: Client) -> None:
    tenant = client.tenant
    tenant.withheld_seconds = 0
    row = tenant.collections["customers"].sorted("id")[0]
    tenant.delete("customers", row)
    assert len(client.get("crm/customers", active="Any", pageSize=100)["data"]) == 59
    found = {each["id"]: each["active"] for each in client.feed("crm/export/customers")}
    assert found[row.id] is False


@pytest.mark.parametrize("token", ["abc", "!!!", "MTIzNDU2Nzg5MDEy"])
def test_a_token_that_was_never_given_is_refused(client: Client, token: str) -> None:
    answer = client.raw("jpm/export/jobs", **{"from": token})
    assert answer.status_code == 400
    assert "from" in answer.json()["errors"]


def test_a_token_of_another_feed_is_refused(client: Client) -> None:
    token = client.get("jpm/export/jobs")["continueFrom"]
    assert client.raw("crm/export/customers", **{"from": token}).status_code == 400


def test_only_clients_with_everything_right_are_let_in(client: Client) -> None:
    assert client.login(client_secret="x").json() == {"error": "invalid_client"}
    assert client.login(grant_type="password").status_code == 400
    assert client.raw("crm/jobs").status_code == 404
    service: Any = client.server.service
    service.scopes.remove("jobs")
    assert client.raw("jpm/jobs").status_code == 403
    client.number = 5
    assert client.raw("crm/customers").status_code == 403
    client.number = client.tenant.number
    client.session.headers["ST-App-Key"] = "wrong"
    assert client.raw("crm/customers").status_code == 401


def test_tokens_live_as_long_as_they_say(tenant: Tenant) -> None:
    with serve(tenant, token_seconds=0) as server:
        client = Client(server, tenant)
        with client.session:
            assert client.login().json()["expires_in"] == 0
            assert client.raw("crm/customers").status_code == 401


def test_the_limit_of_requests_is_kept(tenant: Tenant) -> None:
    with serve(tenant, requests_per_second=5) as server:
        client = Client(server, tenant)
        with client.session:
            statuses = [client.raw("crm/customers").status_code for _ in range(12)]
    assert 429 in statuses


@pytest.mark.parametrize(
    ("fault", "more", "rows"), [("empty-page", True, 0), ("short-page", True, 3)]
)
def test_pages_can_lack_what_they_should_have(
    tenant: Tenant, fault: str, more: bool, rows: int
) -> None:
    with serve(tenant, faults=[f"{fault}:1"], export_rows=7) as server:
        client = Client(server, tenant)
        with client.session:
            for path, params in (("crm/customers", {"pageSize": 7}), ("crm/export/customers", {})):
                page = client.get(path, **params)
                assert (page["hasMore"], len(page["data"])) == (more, rows)


def test_a_seed_makes_one_tenant() -> None:
    one, other = generate(20, seed=5), generate(20, seed=5)
    for stream, collection in one.collections.items():
        bodies = [collection.render(row) for row in collection.rows.values()]
        again = other.collections[stream]
        assert bodies == [again.render(row) for row in again.rows.values()]
    assert expected_counts(one).as_dict() == expected_counts(other).as_dict()
    assert (
        generate(20, seed=6).collections["jobs"].rows.keys() == one.collections["jobs"].rows.keys()
    )


def test_a_file_is_served_as_it_is(tmp_path: Any) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"stream":"jobs","record":{"id":3,"modifiedOn":"2024-01-01T00:00:00Z","x":1}}')
    tenant = load([path])
    (row,) = tenant.collections["jobs"].rows.values()
    assert tenant.collections["jobs"].record(row)["x"] == 1
    path.write_text('{"stream":"jobs","record":{"id":3}}')
    with pytest.raises(DataError, match="line 1"):
        load([path])


@pytest.mark.parametrize(
    "moment", ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00.1234567Z", "2024-05-01T12:00:00.5Z"]
)
def test_times_are_written_as_they_are_read(moment: str) -> None:
    assert text(parse(moment)) == moment


def test_the_command_knows_its_options() -> None:
    options = COMMAND.read_options(["--generate", "5", "--order", "ignored", "--fault", "429:0.1"])
    assert (options.generate, options.order, options.fault) == (5, "ignored", ["429:0.1"])
    assert timedelta(seconds=options.withheld_seconds) == timedelta(minutes=5)
