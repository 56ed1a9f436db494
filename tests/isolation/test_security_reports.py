"""What leaves the machine in a report of a fault, and what stands in a log: no words, no keys, no people."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response

from agentvoicebox.logs import TenantContextFilter
from speech.logs import JsonFormatter, redact

ROOT = Path(__file__).parents[2]
PRIVATE = ["what the caller said", "jane", "0123456789", "IdemKey-1", "invitation-token", "192.0.2.1", "901820"]
# In a process of its own: Sentry's SDK changes Django for good.
PROGRAM = """
import asyncio, json, sys, types
import django
django.setup()
import sentry_sdk
from django.conf import settings
from django.test import AsyncClient
from django.urls import path
from sentry_sdk.transport import Transport

class Kept(Transport):
    events = []
    def capture_envelope(self, envelope):
        self.events += [item.payload.json for item in envelope.items if item.type in ("event", "transaction")]

def fail(request, token):
    raise ValueError("Key (email)=(jane@example.com) already exists, avb_live_0123456789")

async def fail_live(request):
    raise ValueError("+49 30 901820")

addresses = types.ModuleType("addresses")
addresses.urlpatterns = [path("invitations/<str:token>/", fail), path("v1/fail", fail_live)]
addresses.handler500 = lambda request: django.http.HttpResponse(status=500)
sys.modules["addresses"] = addresses
settings.ROOT_URLCONF, settings.MIDDLEWARE = "addresses", []
client = sentry_sdk.get_client()
client.transport = kept = Kept(client.options)

async def ask(address):
    body = json.dumps({"input": "what the caller said", "end_user": "jane"})
    headers = {
        "api-key": "avb_live_0123456789", "OpenAI-Safety-Identifier": "jane", "Idempotency-Key": "IdemKey-1",
        "X-Forwarded-For": "192.0.2.1",
    }
    client = AsyncClient(raise_request_exception=False)
    await client.post(address, body, content_type="application/json", headers=headers)

asyncio.run(ask("/v1/fail?user=jane"))
asyncio.run(ask("/invitations/invitation-token/"))
print(json.dumps(kept.events))
"""


def test_a_report_says_where_and_not_what(tmp_path: Path) -> None:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "agentvoicebox.settings", "SENTRY_DSN": "http://key@127.0.0.1:9/1",
        "AVB_SENTRY_TRACES_RATE": "1", "AVB_STATE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    events = json.loads(done.stdout.splitlines()[-1])
    faults = [event for event in events if event.get("exception")]
    assert [fault["exception"]["values"][-1]["type"] for fault in faults] == ["ValueError", "ValueError"]
    functions = [fault["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] for fault in faults]
    assert functions == ["fail_live", "fail"]
    told = json.dumps(events)
    assert {word: told[max(0, told.find(word) - 200) :][:250] for word in PRIVATE if word in told} == {}


@pytest.mark.parametrize(
    "secret",
    [
        "avb_live_0123456789", "avb_test_0123456789", "avb_platform_0123456789", "avb_client_0123456789",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjbGllbnQifQ.c2lnbmF0dXJl", "ek_01234567890123456789",
    ],
)  # fmt: skip
def test_no_kind_of_secret_stands_in_a_log(secret: str) -> None:
    assert redact(f"refused: {secret}!") == "refused: [secret]!"
    assert redact("avb_llm_tokens_in avb_spool") == "avb_llm_tokens_in avb_spool"


def test_a_refused_request_is_logged_without_its_parameters(caplog: pytest.LogCaptureFixture) -> None:
    request = RequestFactory().get("/accounts/sso/sso_1/callback/?code=once-only&state=s&user=jane")
    log_response("Forbidden: %s", request.path, response=HttpResponse(status=403), request=request)
    record = caplog.records[-1]
    assert TenantContextFilter("gateway").filter(record)
    line = JsonFormatter().format(record)
    assert json.loads(line)["status_code"] == 403
    assert "once-only" not in line
    assert "jane" not in line
