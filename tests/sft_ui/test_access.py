"""Login, host and origin checks, security headers."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sft_ui.access import LOCK_SECONDS, Login, build_middleware, check_bind, is_loopback, read_login
from trainer_backend.errors import UserError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def client(host="127.0.0.1"):
    route = Route("/{path:path}", lambda request: PlainTextResponse("in"), methods=["GET", "POST"])
    return TestClient(
        Starlette(routes=[route], middleware=build_middleware(host)), base_url=f"http://{host}"
    )


def test_a_login_needs_user_and_password():
    login = Login("anna", "geheim")
    assert login("anna", "geheim")
    assert not login("anna", "falsch") and not login("ben", "geheim") and not login("", "")


def test_many_wrong_attempts_lock_the_login_for_a_while():
    clock = Clock()
    login = Login("anna", "geheim", clock)
    assert not any(login("anna", str(n)) for n in range(5))
    assert not login("anna", "geheim")
    clock.now = LOCK_SECONDS + 1
    assert login("anna", "geheim")


@pytest.mark.parametrize("text", ["anna", ":geheim", "anna:"])
def test_an_incomplete_login_is_refused(text):
    with pytest.raises(UserError):
        read_login(text, {})


def test_the_login_comes_from_the_flag_or_the_environment():
    assert read_login(None, {}) is None
    assert read_login(None, {"SFT_STUDIO_AUTH": "anna:ge:heim"})("anna", "ge:heim")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_loopback_address_needs_no_login(host):
    assert is_loopback(host)
    check_bind(host, None, environment={})


def test_an_open_page_needs_allow_open():
    with pytest.raises(UserError):
        check_bind("0.0.0.0", None, environment={})
    check_bind("0.0.0.0", Login("a", "b"), environment={})
    check_bind("0.0.0.0", None, allow_open=True, environment={})


def test_another_host_name_is_refused():
    assert client().get("/").status_code == 200
    assert client().get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_of_other_websites_are_refused(site):
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "cors"}
    assert client().post("/", headers=headers).status_code == 403
    assert client().get("/", headers=headers).status_code == 403
    following_a_link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    assert client().get("/", headers=following_a_link).status_code == 200
    assert client().post("/", headers=following_a_link).status_code == 403
    assert client().post("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_the_server_fetches_no_addresses_for_a_visitor():
    assert client().get("/gradio_api/file=http://169.254.169.254/").status_code == 403


def test_every_response_has_the_security_headers():
    headers = client().get("/").headers
    assert "frame-ancestors 'self' https://huggingface.co" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
