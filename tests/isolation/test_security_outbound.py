"""What customers can make this server ask for: not our own network, and not for longer than the time limit."""

import socket
import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
import requests
from django.core import mail
from django.test import Client
from django.utils import timezone
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.keys.networks import is_public
from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.people.connecting import PublicSession
from tenants.usage import budgets
from tenants.usage.models import BudgetAlert
from tests.record.world import World

DRIP_S = 0.05


@pytest.fixture(params=["head", "body"])
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    """A provider that sends a byte now and then, and never ends: each comes well within any time limit of a read."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if request.param == "body":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not over.wait(DRIP_S):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    over.set()
    thread.join()
    listener.close()


def test_a_provider_that_never_ends_its_answer_is_left(dripping: str, settings) -> None:
    settings.SSO_PRIVATE_ISSUERS = True
    began = time.monotonic()
    with pytest.raises(requests.RequestException):
        PublicSession(0.5).get(dripping)
    assert time.monotonic() - began < 5, "the time limit is for all of the answer, not for each byte"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "fd00:ec2::254", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "2002:a00:1::1", "2002:7f00:1::", "224.0.0.1",
        "::127.0.0.1", "64:ff9b:1::a00:1", "::ffff:0:127.0.0.1", "fec0::1", "ff02::1", "::", "100.64.0.1",
        "0.0.0.0",  # noqa: S104
    ],
)  # fmt: skip
def test_no_address_of_our_own_network_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700:4700::1111", "64:ff9b::5db8:d70e"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


def test_a_name_with_a_line_break_makes_no_header_and_stops_no_mail(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        budget = budgets.set_budget(name="calls\nBcc: mallory@elsewhere.localhost", amount=Decimal(10), currency="EUR")
        month = budgets.first_of_month(timezone.now())
        BudgetAlert.objects.create(budget=budget, month=month, threshold=50, spent=Decimal(5))
        assert budgets.tell_alerts(tenant=world.alpha.tenant) == 1
    assert "calls Bcc: mallory@elsewhere.localhost" in mail.outbox[0].subject
    assert mail.outbox[0].recipients() == [world.alpha.owner.email]


def test_the_audit_has_the_address_of_an_operators_program_behind_a_proxy(world: World, settings) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    _, secret = issue_platform_key(name="ops")
    client = Client(headers={"Authorization": f"Bearer {secret}", "X-Forwarded-For": "198.51.100.7"})
    answer = client.post("/api/v1/plans/", {"slug": "seen", "name": "Seen"}, content_type="application/json")
    assert answer.status_code == 201, answer.content
    assert Entry.objects.order_by("-seq").first().address == "198.51.100.7"
