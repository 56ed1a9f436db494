"""``GET /v1/models``: OpenAI's names that work here, and the tenant's own agents."""

from typing import Any

from django.http import HttpRequest, JsonResponse

from agents.models import Agent
from realtime.rest.authentication import authenticate, read_in_tenant
from realtime.rest.errors import ApiError, endpoint
from realtime.rest.names import MODELS, is_one_of
from realtime.runtime.door import AGENT_PREFIX

# The aliases stand for whatever is installed: they have no birthday of their own.
ALIAS_CREATED = 1_767_225_600


def model_object(name: str, created: int, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def read_agents() -> list[dict[str, Any]]:
    """Those that take calls."""
    return [
        model_object(f"{AGENT_PREFIX}{agent.slug}", int(agent.created_at.timestamp()), "organization-owner")
        for agent in Agent.objects.filter(live__isnull=False)
    ]


@endpoint("GET")
async def list_models(request: HttpRequest) -> JsonResponse:
    holder = await authenticate(request, None)
    aliases = [model_object(name, ALIAS_CREATED, "system") for name in MODELS]
    return JsonResponse({"object": "list", "data": [*aliases, *await read_in_tenant(holder, read_agents)]})


@endpoint("GET")
async def retrieve_model(request: HttpRequest, model: str) -> JsonResponse:
    holder = await authenticate(request, None)
    if is_one_of(model, MODELS):
        return JsonResponse(model_object(model, ALIAS_CREATED, "system"))
    for agent in await read_in_tenant(holder, read_agents):
        if agent["id"] == model:
            return JsonResponse(agent)
    raise ApiError(404, f"The model '{model[:64]}' does not exist", code="model_not_found", param="model")
