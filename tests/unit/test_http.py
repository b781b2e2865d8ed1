"""What all clients share: the address, and the one line that says what a server did in place of an answer."""

from __future__ import annotations

import pytest

from servescope.clients.http import HttpApi, certificates
from servescope.errors import ServescopeError
from tests.support.stub_server import stub_server


def test_a_path_is_put_below_the_address():
    with stub_server({"a": 1}) as (url, asked), HttpApi(f"{url}/prefix/", "Loki") as api:
        assert api.url == f"{url}/prefix"
        assert api.get("/query", {"q": "{x='1'}"}).json() == {"a": 1}
    assert asked == [("/prefix/query", {"q": "{x='1'}"})]


def test_a_redirect_is_not_followed():
    with (
        stub_server({}) as (other, asked_there),
        stub_server("", 302, location=f"{other}/login?state=only-theirs") as (url, _),
        HttpApi(url, "Loki") as api,
        pytest.raises(ServescopeError, match=rf"^{url}: redirects \(302\) to {other} and is not followed, ") as raised,
    ):
        api.get("/query", {})
    assert "only-theirs" not in str(raised.value)
    assert asked_there == []


def test_each_failure_names_the_server_and_the_program():
    api = HttpApi("http://h:1/", "Tempo")
    assert str(api.refused("too long")) == "http://h:1: Tempo rejected the query: too long"
    assert str(api.refused("too long", 400)) == "http://h:1: Tempo rejected the query (400): too long"
    assert str(api.unexpected(404)) == "http://h:1: not a response of Tempo (404)"
    with (
        pytest.raises(ServescopeError, match=r"^http://h:1: not a response of Tempo \(KeyError: 'a'\)$"),
        api.reading(),
    ):
        {}["a"]
    with stub_server("") as (url, _):
        pass
    with (
        HttpApi(url, "Tempo") as gone,
        pytest.raises(ServescopeError, match=f"^{url}: Tempo is unreachable \\(.+\\)$"),
    ):
        gone.get("/", {})


def test_certificates_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(ServescopeError, match=f"^{tmp_path}/none.pem: cannot read the certificates"):
        certificates(tmp_path / "none.pem")
    assert certificates(tmp_path / "none.pem", verify=False) is False
