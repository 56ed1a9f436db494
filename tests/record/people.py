"""People at the doors: signed in on a host, as REST and as a browser see them."""

import json
import re
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.test import Client

from tenants.models import User
from tests.record.world import PASSWORD

PLATFORM = "testserver.localhost"


@pytest.fixture
def commits(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to happen after the commit happens at once: the transaction around a test never ends."""
    monkeypatch.setattr(transaction, "on_commit", lambda do, *_, **__: do())


class Person:
    """A browser of somebody who signed in, or of nobody; CSRF is checked as it is for everybody."""

    def __init__(self, user: User | None, host: str = PLATFORM) -> None:
        self.client = Client(headers={"Host": host}, enforce_csrf_checks=True, raise_request_exception=False)
        self.host = host
        if user is not None:
            self.client.force_login(user)

    def token(self) -> str:
        self.client.get("/accounts/login/")
        if "csrftoken" not in self.client.cookies:
            self.client.get("/accounts/logout/")
        return self.client.cookies["csrftoken"].value

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status, and the parsed answer."""
        response = self.client.generic(
            method, f"/api/v1/{path}", "" if body is None else json.dumps(body), content_type="application/json",
            headers={"X-CSRFToken": self.token()},
        )  # fmt: skip
        return response.status_code, json.loads(response.content) if response.content else None

    def post(self, path: str, **fields: str) -> Any:
        return self.client.post(path, fields, headers={"X-CSRFToken": self.token()})

    def sign_in(self, email: str, password: str = PASSWORD, following: str = "") -> Any:
        return self.post("/accounts/login/", login=email, password=password, next=following)


def mailed_link(position: int = -1) -> str:
    """The path that the last mail leads to."""
    return re.search(r"https?://[^/\s]+(/\S+)", str(mail.outbox[position].body))[1]  # type: ignore[index]
