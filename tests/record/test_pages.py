"""The front page, what is shown where there is nothing, static files, and the headers that browsers are told."""

import json

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client, RequestFactory

from agentvoicebox import pages
from tests.record.test_admin import sign_in
from tests.record.world import World


def test_the_front_page_says_what_runs_here_and_asks_no_database() -> None:
    response = Client(headers={"Host": "127.0.0.1:8000"}).get("/")
    page = response.content.decode()
    assert response.status_code == 200
    assert "ws://127.0.0.1:8000/v1/realtime" in page
    pages = ("/accounts/login/", "/admin/", "/api/v1/docs/", "/api/v1/docs/reference/")
    for address in (*pages, "/ready", "/metrics", "/static/site.css"):
        assert f'"{address}"' in page


def test_behind_tls_the_front_page_says_wss(settings) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    page = Client(headers={"X-Forwarded-Proto": "https"}).get("/").content.decode()
    assert "wss://" in page


@pytest.mark.parametrize("path", ["/static/site.css", "/static/icon.svg", "/static/admin/css/base.css"])
def test_static_files_need_no_collecting(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 200
    assert b"".join(response.streaming_content)


@pytest.mark.parametrize(
    ("address", "script"),
    [("docs/", "swagger-ui-dist/swagger-ui-bundle.js"), ("docs/reference/", "redoc/bundles/redoc.standalone.js")],
)
def test_the_api_can_be_read_and_tried_from_local_files_only(address: str, script: str) -> None:
    response = Client().get(f"/api/v1/{address}")
    page = response.content.decode()
    assert f"/static/drf_spectacular_sidecar/{script}" in page
    assert "http" not in page
    assert "unsafe-eval" not in response["Content-Security-Policy"]
    assert "<script>" not in page
    assert Client().get(f"/static/drf_spectacular_sidecar/{script}").status_code == 200


def test_the_document_is_public() -> None:
    assert b"/api/v1/conversations/" in Client().get("/api/v1/schema/").content


def test_nothing_is_shown_in_the_language_of_the_asker() -> None:
    assert "There is no page" in Client().get("/nowhere").content.decode()
    answer = Client().get("/api/v1/nowhere/")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "code": "not_found", "message": "There is nothing at /api/v1/nowhere/.", "param": None,
        "documentation": "/api/v1/docs/errors/#404",
    }  # fmt: skip


def test_only_reading_is_possible_on_the_front_page() -> None:
    assert Client().post("/").status_code == 405


def test_browsers_are_told_to_be_careful() -> None:
    headers = Client().get("/").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_host_that_is_not_allowed_is_refused_but_for_probes() -> None:
    client = Client(headers={"Host": "evil.example"}, raise_request_exception=False)
    assert client.get("/").status_code == 400
    assert client.get("/admin/").status_code == 400
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "there"),
    [
        ("127.0.0.1:8000", "http://platform.localhost:8000/admin/"),
        ("localhost:8080", "http://platform.localhost:8080/admin/"),
        ("[::1]", "http://platform.localhost/admin/"),
        ("alpha.localhost:8000", "http://platform.localhost:8000/admin/"),
        ("platform.localhost:8000", ""),
    ],
)
def test_the_platforms_own_admin_is_found_from_the_demo_tenants_hosts(host: str, there: str) -> None:
    page = Client(headers={"Host": host}).get("/").content.decode()
    assert ("platform.localhost" in page.replace(f"ws://{host}", "")) is bool(there)
    assert not there or f'"{there}"' in page


def test_outside_dev_no_such_address_is_invented(settings) -> None:
    settings.DEV = False
    assert "platform.localhost" not in Client(headers={"Host": "127.0.0.1:8000"}).get("/").content.decode()


def test_what_is_refused_is_a_page_of_ours_and_a_problem_of_the_api(world: World) -> None:
    owner = sign_in(world.alpha.host, world.alpha.owner.email)
    refused = owner.get("/admin/toolbox/credential/add/")
    assert refused.status_code == 403
    assert "Not for you" in refused.content.decode()
    assert "/static/site.css" in refused.content.decode()
    answer = pages.forbidden(RequestFactory().get("/api/v1/agents/"), PermissionDenied())
    assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (403, "permission_denied")
