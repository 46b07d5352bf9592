"""Requests of other hosts, other origins, and without the token; keys that are valid once.

Another host is answered with 400, another origin with 403, a missing or wrong token with 401, for every path and method. No response has CORS
headers.
"""

import webbrowser

import pytest

from selfsight.explorer.server import guard
from selfsight.explorer.server.opening import RunningServer, serve

from explorer_store import Client, make_shelf


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("shelf")
    make_shelf(where)
    return where / "pack"


@pytest.fixture(scope="module")
def opened(folder):
    server = serve(folder, port=0, work=False)
    yield server
    server.close()


@pytest.fixture
def client(opened):
    return Client(opened)


def entered(client: Client, address: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:
    """The answer to an address by a browser without a cookie, unless it is in the headers."""
    other = Client.__new__(Client)
    other.host, other.cookie = client.host, ""
    status, answered, _ = other.ask("GET", "/" + address.removeprefix("http://").partition("/")[2], headers=headers)
    return status, answered


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.com"}, 400),
        ({"host": "localhost.evil.com"}, 400),
        ({"host": "127.0.0.1:1"}, 400),
        ({"host": "x" * 10_000}, 400),
        ({"origin": "http://evil.com"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"cookie": "x=y"}, 401),
        ({"cookie": "x" * 12_000}, 401),
    ],
)
def test_other_hosts_and_origins_are_rejected(client, headers, status):
    for method, path, body in (("GET", "/api/about", None), ("POST", "/api/undo", {}), ("OPTIONS", "/api/about", None)):
        found, answered, _ = client.ask(method, path, body, headers=headers)
        assert found == status
        assert not any(name.startswith("access-control") for name in answered)


def test_every_path_requires_the_case_sensitive_token(client):
    kept, client.cookie = client.cookie, ""
    for path in ("/", "/app.js", "/api/thumb/1", "/map", "/enter", "/enter?token=", "/enter?token=x", client.enter):
        assert client.ask("GET", path)[0] == 401
    assert client.ask("POST", "/api/undo", {})[0] == 401
    client.cookie = kept.upper().replace("SELFSIGHT", "selfsight")
    assert client.ask("GET", "/api/about")[0] == 401
    client.cookie = kept
    host = "localhost:" + client.host.split(":")[1]
    assert client.ask("GET", "/api/about", headers={"host": host, "origin": f"http://{host}"})[0] == 200
    other_name = {"host": host, "origin": f"http://{client.host}"}  # which is another origin
    assert client.ask("GET", "/api/about", headers=other_name)[0] == 403


def test_a_key_is_valid_once(opened, client):
    """Other users of the machine can read the address in the command line of the browser; it must then be of no use to them."""
    address = opened.address
    assert entered(client, address.upper().replace("HTTP", "http").replace("/ENTER?TOKEN", "/enter?token"))[0] == 401
    status, headers = entered(client, f"{address}&next=//evil.com")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    key = address.rpartition("=")[2]
    assert key not in headers["set-cookie"]
    assert entered(client, address)[0] == 401
    assert entered(client, address, {"cookie": client.cookie})[0] == 303  # the same browser, which is in already
    port = client.host.rpartition(":")[2]
    assert entered(client, "/api/about", {"cookie": f"selfsight-{port}={key}"})[0] == 401
    another = opened.address
    assert another != address
    assert entered(client, another)[0] == 303


def test_a_key_is_not_used_up_by_a_refused_request(opened, client):
    address = opened.address
    assert entered(client, address, {"host": "evil.com"})[0] == 400
    assert entered(client, address, {"origin": "http://evil.com"})[0] == 403
    assert entered(client, address)[0] == 303


def test_the_number_of_unused_keys_is_bounded(opened, client):
    first = opened.address
    kept = [opened.address for _ in range(guard.MOST_KEYS)]
    assert entered(client, first)[0] == 401
    assert entered(client, kept[0])[0] == 303


def test_the_browser_has_a_key_of_its_own(folder, monkeypatch):
    """The printed address remains valid, and is replaced by a new one when it was used."""
    browsed, announced = list[str](), list[str]()
    monkeypatch.setattr(webbrowser, "open", browsed.append)
    server = serve(folder, port=0, work=False, browser=True, entered=announced.append)
    try:
        printed = server.address
        assert browsed != [printed]
        first = Client(RunningServer(browsed.pop, server.close, server.wait))
        assert first.json("GET", "/api/about")
        assert announced == []
        second = Client(RunningServer(lambda: printed, server.close, server.wait))
        assert second.json("GET", "/api/about")
        assert len(announced) == 1
        third = Client(RunningServer(announced.pop, server.close, server.wait))
        assert third.json("GET", "/api/about")
        assert len(announced) == 1
    finally:
        server.close()


def test_an_allowed_tunnel_from_another_port_is_accepted(folder):
    opened = serve(folder, port=0, hosts=("localhost:9000", "gate.example"))
    try:
        client = Client(opened)
        for host, status in (("localhost:9000", 200), ("gate.example", 200), ("localhost:9001", 400), ("gate.example:9000", 400)):
            assert client.ask("GET", "/api/about", headers={"host": host})[0] == status
    finally:
        opened.close()
