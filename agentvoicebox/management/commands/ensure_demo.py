"""``manage.py ensure_demo``: a tenant to try things with. Run as often as you like: what is there stays."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django_tenants.utils import tenant_context

from agents.models import Agent
from agents.operations import create_agent, publish_agent
from tenants.keys.operations import issue_key
from tenants.keys.queries import KeyRefused, find_key
from tenants.lifecycle.building import build_tenant
from tenants.lifecycle.operations import create_tenant
from tenants.lifecycle.queries import find_certificate
from tenants.models import Tenant, TenantStatus, User
from tenants.people.operations import add_member
from tenants.permissions import TENANT_SCOPES, Role

SLUG = "demo"
HOSTS = ("localhost", "127.0.0.1", "[::1]")
EMAIL = "owner@demo.localhost"
INSTRUCTIONS = """\
You are the friendly receptionist of a small business. Your answers are spoken aloud: answer in one short sentence, \
in plain words, without lists.
The business is open Monday to Friday from nine to five. You can take a message, note an appointment request, and \
answer general questions. When you do not know something, say so and offer to take a message.
Ask one question at a time. If you did not understand the caller, ask them to say it again."""


class Command(BaseCommand):
    help = "Make sure that the demo tenant, its agent, an API key and its owner exist, and print how to use them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--state", type=Path, required=True, help="JSON file that keeps the key and the password")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        state = read_state(options["state"])
        tenant = ensure_tenant()
        demo = {"tenant": SLUG, "agent": SLUG, "api_key": state.get("api_key", ""), "email": EMAIL}
        demo["password"] = state.get("password", "")
        if tenant is None:
            self.stderr.write("The demo tenant is suspended, deleted or erased, and stays so.")
        else:
            ensure_agent(tenant)
            demo["api_key"] = ensure_key(tenant, demo["api_key"])
            demo["password"] = ensure_owner(tenant, demo["password"])
        write_state(options["state"], state | demo)
        if options["json"]:
            self.stdout.write(json.dumps(demo))
        else:
            self.stdout.write("\n".join(f"{name:<10}{value}" for name, value in demo.items()))


def ensure_tenant() -> Tenant | None:
    """The demo tenant, open; one whose making was cut short is finished. None where an operator closed it."""
    tenant = Tenant.objects.filter(slug=SLUG).first()
    if tenant is None:
        return None if find_certificate(SLUG) else create_tenant(slug=SLUG, name="Demo", domains=HOSTS)
    if tenant.status == TenantStatus.CREATING:
        tenant = build_tenant(tenant)
    return tenant if tenant.status == TenantStatus.ACTIVE else None


def ensure_agent(tenant: Tenant) -> None:
    with tenant_context(tenant), transaction.atomic():
        if not Agent.objects.filter(slug=SLUG).exists():
            demo = create_agent(
                slug=SLUG,
                name="Demo receptionist",
                instructions=INSTRUCTIONS,
                voice="af_heart",
                temperature=0.3,
                language="en",
                is_default=not Agent.objects.filter(is_default=True).exists(),
            )
            publish_agent(agent=demo)


def ensure_key(tenant: Tenant, secret: str) -> str:
    """The remembered key while it opens the demo tenant and may do everything, else a new one."""
    try:
        key = find_key(secret)
        if key.tenant_id == tenant.pk and set(key.scopes) >= TENANT_SCOPES:
            return secret
    except KeyRefused:
        pass  # forgotten, revoked or expired: a new one takes its place
    return issue_key(tenant=tenant, name="demo", mode="test")[1]


@transaction.atomic
def ensure_owner(tenant: Tenant, password: str) -> str:
    """The remembered password while it signs the owner in, else a new one."""
    user = User.objects.filter(email=EMAIL).first()
    if user is None or not password or not user.check_password(password):
        password = secrets.token_urlsafe(12)
        user = user or User(email=EMAIL, name="Demo owner")
        user.set_password(password)
        user.save()
    # Without a proven address nobody gets past the sign-in.
    user.emailaddress_set.update_or_create(email=EMAIL, defaults={"verified": True, "primary": True})
    add_member(tenant=tenant, email=EMAIL, role=Role.OWNER)
    return password


def read_state(path: Path) -> dict[str, Any]:
    """What an earlier run wrote; nothing when there is no such file or it is not a JSON object."""
    try:
        state = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all, and readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(state, stream, indent=2)
    fresh.replace(path)
