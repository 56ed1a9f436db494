"""The platform operator's pages that are no list of rows: the dashboard, health, and the archive's dead letters."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import redis
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.urls import path, reverse
from kombu.exceptions import OperationalError

from agents.models import Agent
from agentvoicebox.health import QUEUES, READINESS
from celery_workers.app import QUEUE_DEFAULT, submit
from realtime.archive.dead_letters import (
    count_dead_letters,
    list_dead_letters,
    purge_dead_letters,
    replay_dead_letters,
)
from realtime.archive.events import TASK_DRAIN, stream_key
from realtime.archive.models import Conversation
from speech.jobs import WORKER_TTL_S, workers_key
from tenants.admin_site import operates_platform, tenant_of
from tenants.audit.models import Entry
from tenants.models import ApiKey, Tenant, TenantStatus, User

LATEST = 8
UNACKED = "unacked"
ICONS = {
    "tenant": "apartment", "plan": "sell", "platformkey": "admin_panel_settings", "apikey": "key", "user": "person",
    "membership": "group", "invitation": "mail", "entry": "history", "price": "payments",
    "stripecustomer": "credit_card", "datakey": "lock", "agent": "support_agent", "conversation": "forum",
}  # fmt: skip

TITLES = {"entry": "Acts"}

Page = Callable[..., HttpResponse]


def icon_address(request: HttpRequest) -> str:
    return static("icon.svg")


def style_address(request: HttpRequest) -> str:
    return static("admin.css")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """What this person may see on this host, app by app, as Django's own list of apps has it."""
    groups = []
    if operates_platform(request):
        pages = [
            {"title": "Dashboard", "icon": "dashboard", "link": reverse("admin:index")},
            {"title": "Health", "icon": "monitor_heart", "link": reverse("admin:health")},
            {"title": "Dead letters", "icon": "unarchive", "link": reverse("admin:dead_letters")},
        ]
        groups.append({"title": "Platform", "items": pages})
    for app in admin.site.get_app_list(request):
        items = [
            {
                "title": TITLES.get(model["object_name"].lower(), str(model["name"])),
                "icon": ICONS.get(model["object_name"].lower(), "table"),
                "link": model["admin_url"],
            }
            for model in app["models"]
        ]
        groups.append({"title": str(app["name"]), "separator": True, "items": items})
    return groups


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's hook for the first page."""
    if operates_platform(request):
        return context | {"cards": _platform_cards(), "entries": Entry.objects.all()[:LATEST], "operates": True}
    if tenant_of(request):
        return context | {"cards": _tenant_cards(), "entries": Entry.objects.all()[:LATEST]}
    return context


def platform_page(view: Page) -> Page:
    """For operators on the platform's host; everybody else hears 403."""

    @wraps(view)
    def show(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not operates_platform(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(show)


def health(request: HttpRequest) -> HttpResponse:
    """The probes, the workers of each queue, and what waits."""
    found = READINESS.read()
    context = admin.site.each_context(request) | {
        "title": "Health",
        "status": found["status"],
        "checks": [{"name": name, **check} for name, check in found["checks"].items()],
    }
    try:
        context |= _read_queues()
    except redis.RedisError as error:
        messages.error(request, f"Redis does not answer: {type(error).__name__}.")
    return TemplateResponse(request, "admin/health.html", context)


def dead_letters(request: HttpRequest) -> HttpResponse:
    """Which tenants have events that could not be stored."""
    names = dict(Tenant.objects.values_list("schema_name", "name"))
    try:
        counts = count_dead_letters(_client(), list(names))
    except redis.RedisError as error:
        messages.error(request, f"Redis does not answer: {type(error).__name__}.")
        counts = {}
    rows = [{"schema_name": schema, "name": names[schema], "count": count} for schema, count in counts.items()]
    context = admin.site.each_context(request) | {"title": "Dead letters", "rows": rows}
    return TemplateResponse(request, "admin/dead_letters.html", context)


def dead_letters_of(request: HttpRequest, schema_name: str) -> HttpResponse:
    """One tenant's: what kind they are and why, and whether to send them again or throw them away."""
    tenant = get_object_or_404(Tenant, schema_name=schema_name)
    if request.method == "POST":
        return _settle(request, tenant)
    context = admin.site.each_context(request) | {
        "title": f"Dead letters of {tenant.name}",
        "tenant_name": tenant.name,
        "letters": list_dead_letters(_client(), schema_name),
    }
    return TemplateResponse(request, "admin/dead_letters_of.html", context)


def _settle(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    chosen, action = request.POST.getlist("letter"), request.POST.get("action")
    if action not in ("replay", "purge"):
        raise Http404(f"There is no action {action!r}.")
    back = HttpResponseRedirect(reverse("admin:dead_letters_of", args=[tenant.schema_name]))
    if not chosen:
        messages.error(request, "Choose at least one.")
        return back
    if action == "purge" and "apply" not in request.POST:
        title = f"Throw away {len(chosen)} dead letters of {tenant.name}? What they hold is lost."
        context = admin.site.each_context(request) | {"title": title, "chosen": chosen, "action": action}
        return TemplateResponse(request, "admin/dead_letters_purge.html", context)
    if action == "purge":
        messages.success(
            request, f"{purge_dead_letters(_client(), tenant=tenant.schema_name, ids=chosen)} thrown away."
        )
        return back
    replayed = replay_dead_letters(_client(), tenant=tenant.schema_name, ids=chosen)
    try:
        submit(TASK_DRAIN, QUEUE_DEFAULT, {"tenant": tenant.schema_name})
    except OperationalError:
        messages.warning(request, "The broker does not answer; the next sweep stores them.")
    messages.success(request, f"{replayed} sent again; those that fail once more come back here.")
    return back


def _platform_cards() -> list[dict[str, Any]]:
    by_status = dict(Tenant.objects.values_list("status").annotate(Count("pk")))
    total = sum(by_status.values())
    others = ", ".join(f"{count} {status}" for status, count in by_status.items() if status != TenantStatus.ACTIVE)
    cards = [
        {"title": "Tenants", "value": total, "note": others or "all active", "link": "admin:tenants_tenant_changelist"},
        {"title": "People", "value": User.objects.filter(is_active=True).count(), "note": "may sign in",
         "link": "admin:tenants_user_changelist"},
        {"title": "API keys", "value": ApiKey.objects.filter(revoked_at=None).count(), "note": "not revoked",
         "link": "admin:tenants_apikey_changelist"},
    ]  # fmt: skip
    status = READINESS.read()["status"]
    try:
        queues = _read_queues()
    except redis.RedisError:
        return [*cards, {"title": "Health", "value": status, "note": "Redis does not answer", "link": "admin:health"}]
    waiting = sum(queue["waiting"] for queue in queues["queues"])
    dead = sum(row["dead"] for row in queues["tenants"])
    return [
        *cards,
        {"title": "Calls", "value": sum(row["calls"] for row in queues["tenants"]), "note": "in progress",
         "link": "admin:health"},
        {"title": "Health", "value": status, "note": f"{waiting} jobs wait", "link": "admin:health"},
        {"title": "Dead letters", "value": dead, "note": "could not be stored", "link": "admin:dead_letters"},
    ]  # fmt: skip


def _tenant_cards() -> list[dict[str, Any]]:
    return [
        {"title": "Agents", "value": Agent.objects.count(), "note": "answer calls",
         "link": "admin:agents_agent_changelist"},
        {"title": "Conversations", "value": Conversation.objects.count(), "note": "in the archive",
         "link": "admin:archive_conversation_changelist"},
    ]  # fmt: skip


def _read_queues() -> dict[str, Any]:
    """Workers and waiting jobs of each queue; of each tenant with any, what waits for the archive and its calls."""
    schemas = list(Tenant.objects.order_by("name").values_list("schema_name", "name"))
    now = time.time()
    with _client().pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.zcount(workers_key(queue), now - WORKER_TTL_S, "+inf")
            pipe.llen(queue)
        pipe.hlen(UNACKED)
        for schema, _ in schemas:
            pipe.xlen(stream_key(schema))
            pipe.xlen(f"avb:{schema}:archive:dead")
            pipe.zcount(f"avb:{schema}:sessions", now, "+inf")
        found = iter(pipe.execute())
    queues = [{"name": queue, "workers": next(found), "waiting": next(found)} for queue in QUEUES]
    unacked = next(found)
    rows = [
        {"schema_name": schema, "name": name, "archive": next(found), "dead": next(found), "calls": next(found)}
        for schema, name in schemas
    ]
    busy = [row for row in rows if row["archive"] or row["dead"] or row["calls"]]
    return {"queues": queues, "unacked": unacked, "tenants": busy}


def _client() -> "redis.Redis[bytes]":
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_WRITE_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_WRITE_TIMEOUT_S,
    )


admin.site.pages.extend(
    [
        path("health/", platform_page(health), name="health"),
        path("dead-letters/", platform_page(dead_letters), name="dead_letters"),
        path("dead-letters/<str:schema_name>/", platform_page(dead_letters_of), name="dead_letters_of"),
    ]
)
