"""One example of each resource, for the OpenAPI document: by the name of its shape, the value of each field.

What is sent (``…Request``), and the parts of a change (``Patched…``), are examples of the same resource. A field that
is not here has a value made from its schema (``tenants.api.examples``).
"""

from typing import Any

MORNING, LATER, NEXT_YEAR = "2027-01-15T08:00:00Z", "2027-01-15T09:30:00Z", "2028-01-15T00:00:00Z"
KEY = "key_5f0c9a1b2d3e4f5061728394"
CLIENT = "client_9a1b2d3e4f50617283945f0c"
CALL = "sess_4m1Qd7Zk"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
TIMES = {"created_at": MORNING, "updated_at": LATER}
PLACES = {"slug": "hotel-aurora", "name": "Hotel Aurora"}
LIMITS = {"requests_per_minute": 600, "concurrent_sessions": 20}
MONTH = {
    "quantities": {"audio_seconds_in": "5400.25", "llm_tokens_out": "48210"},
    "cost": {"EUR": "3.214500"},
    "unpriced": ["telephony_seconds"],
}

KEY_FIELDS = {
    "id": KEY,
    "name": "Website",
    "prefix": "avb_live_Vn3k",
    "scopes": ["realtime", "agents:read"],
    "agent": "",
    "allowed_networks": [],
    "limits": {"requests_per_minute": 60},
    "status": "active",
    "replaced_by": None,
    "created_at": MORNING,
    "last_used_at": LATER,
    "expires_at": NEXT_YEAR,
    "revoked_at": None,
    "secret": "avb_live_Vn3k…",
}
CLIENT_FIELDS = {
    "client_id": CLIENT,
    "name": "Booking system",
    "scopes": ["conversations:read"],
    "created_at": MORNING,
    "rotated_at": None,
    "previous_expires_at": None,
    "last_used_at": LATER,
    "revoked_at": None,
    "client_secret": "avb_client_Qt7w…",
}
TENANT_FIELDS = {
    **PLACES,
    "status": "active",
    "status_reason": "",
    "status_changed_at": MORNING,
    "delete_after": None,
    "plan": "standard",
    "limits": LIMITS,
    "domains": ["voice.hotel-aurora.example"],
    "created_at": MORNING,
}
BUDGET_FIELDS = {
    "name": "All calls",
    "amount": "250.00",
    "thresholds": [50, 80, 100],
    "agent": "",
    "spent": "131.250000",
    **TIMES,
}
PRICE_FIELDS = {
    "id": 12,
    "tenant": None,
    "meter": "llm_tokens_out",
    "provider": "openai",
    "model": "gpt-4o-mini",
    "amount": "0.600000000",
    "per": 1_000_000,
    "effective_from": "2027-02-01",
    "created_at": MORNING,
}
JOB_FIELDS = {
    "id": "3f1c2b9e-6a57-4f0e-9d2c-0b8a7c6d5e4f",
    "subject": SHA256[:32],
    "state": "ready",
    "requested_at": MORNING,
    "ended_at": LATER,
    "counts": {"conversations": 3, "items": 41, "recordings": 1, "usage_entries": 12},
    "done": 3,
    "total": 3,
    "bytes": 1_482_113,
    "expires_at": "2027-01-22T09:30:00Z",
    "refusal": "",
    "fault": "",
}
SIGN_ON_FIELDS = {
    "client_id": "agentvoicebox",
    "client_secret": "the secret that the provider shows",
    "default_role": "viewer",
    "required": False,
    "redirect_uri": "https://voice.example.com/accounts/sso/sso_1b2d3e4f5061728394aabbcc/callback/",
    "sign_in_url": "https://voice.example.com/accounts/sso/hotel-aurora/",
    **TIMES,
}
PROVIDER_FIELDS = {
    "name": "own-vllm",
    "owner": "tenant",
    "is_default": False,
    "kind": "openai_compatible",
    "base_url": "https://llm.example.com/v1",
    "credentials_set": ["api_key"],
    "credentials": {"api_key": "the key that the server wants"},
    "model": "llama-3.3-70b",
    "sees": False,
    "is_enabled": True,
    **TIMES,
}
HOLD_FIELDS = {"session_id": CALL, "end_user": "", "reason": "Complaint of 15 January 2027.", "placed_at": MORNING}
RECORDING_FIELDS = {
    "id": CALL,
    "state": "complete",
    "started_at": MORNING,
    "duration_ms": 61_440,
    "sample_rate_hz": 24_000,
    "channels": 2,
    "bytes": 3_112_960,
}
ROUTING_RULE = "7d3f1b9e-6a57-4f0e-9d2c-0b8a7c6d5e4f"
CONDITIONS = {
    "channels": ["websocket"],
    "hours": {"time_zone": "Europe/Berlin", "days": ["mon", "tue", "wed"], "from": "08:00", "to": "18:00"},
    "attributes": {"caller.tier": ["gold", "platinum"]},
    "languages": ["de"],
    "intent": "a reservation, or a change of one",
}
ROUTING_FIELDS = {
    "id": ROUTING_RULE,
    "position": 0,
    "name": "Reservations",
    "is_enabled": True,
    "agent": "front-desk",
    "conditions": CONDITIONS,
    **TIMES,
}

TOOL_FIELDS = {
    "name": "order_status",
    "description": "Reads the state of an order by its number.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string", "description": "As printed on the invoice."}},
        "required": ["order_id"],
    },
    "request": {
        "method": "GET",
        "url": "https://shop.example.com/v1/orders/{{arguments.order_id}}",
        "query": {"language": "{{caller.language}}"},
    },
    "response": {"fields": {"state": "$.order.state", "expected": "$.order.delivery.date"}},
    "timeout_ms": 5_000,
    "integration": "shop",
    "calls_per_minute": 600,
    "credential": "shop_key",
    "is_enabled": True,
    **TIMES,
}
TOOL_CREDENTIAL_FIELDS = {
    "name": "shop_key",
    "kind": "api_key",
    "config": {"in": "header", "name": "X-Api-Key"},
    "secret": {"value": "the key that the shop shows once"},
    "hosts": ["shop.example.com"],
    **TIMES,
}
MCP_FIELDS = {
    "label": "calendar",
    "url": "https://calendar.example.com/mcp",
    "headers": {"X-Calendar": "front-desk"},
    "credential": None,
    "allowed_tools": ["find_slot", "book_slot"],
    "require_approval": "never",
    "timeout_ms": 10_000,
    "calls_per_minute": 60,
    "is_enabled": True,
    **TIMES,
}
OPERATION_FIELDS = {
    "operation": "GET /orders/{id}",
    "name": "getOrder",
    "description": TOOL_FIELDS["description"],
    "parameters": TOOL_FIELDS["parameters"],
    "request": TOOL_FIELDS["request"],
    "security": ["key"],
    "problem": "",
}
RECEIPT_FIELDS = {
    "tool": "order_status",
    "kind": "http",
    "integration": "shop",
    "asked": '{"order_id": "A-7"}',
    "sent": {"method": "GET", "url": "https://shop.example.com/v1/orders/A-7", "credential": "shop_key"},
    "answered": {"status": 200, "content_type": "application/json", "bytes": 31},
    "outcome": "completed",
    "began_at": 1_800_000_000.0,
    "took_ms": 84.2,
    "agent": "",
    "agent_version": 0,
}

AGENT_FIELDS = {
    "slug": "front-desk",
    "name": "Front desk",
    "instructions": "You answer the phone of a hotel. One or two short sentences. The guest is {{ caller.name }}.",
    "greeting": "Hotel Aurora, good morning!",
    "variables": [{"name": "caller.name", "default": "unknown", "description": "As the booking has it."}],
    "voice": "marin",
    "voices": {"es": "ef_dora"},
    "speed": 1.0,
    "language": "",
    "languages": ["en", "es"],
    "time_zone": "Europe/Berlin",
    "model": "openai/gpt-4o-mini",
    "fallback_models": ["groq"],
    "temperature": 0.7,
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
    "tools": [{"type": "http", "name": "find_booking"}, {"type": "builtin", "name": "end_call"}],
    "colleagues": [{"agent": "billing", "mode": "hand_off", "when": "questions about a bill", "returns": True}],
    "filler": {"after_ms": 1_500, "phrases": ["One moment, please."]},
    "limits": {"duration_s": 900, "tool_rounds": 8},
    "guard_rails": [{"name": "rates", "on": "output", "phrases": ["staff rate"], "say": "I cannot speak about that."}],
    "record": False,
    "is_default": True,
    "live": 3,
    "standby": 2,
    **TIMES,
}
VERSION_FIELDS = {
    "number": 3,
    "note": "Speaks Spanish too.",
    "published_by": "ada@example.com",
    "created_at": MORNING,
    "is_live": True,
    "is_standby": False,
}

RESOURCES: dict[str, dict[str, Any]] = {
    "Agent": AGENT_FIELDS,
    "AgentApplied": {"created": False, "changed": ["instructions"], "agent": AGENT_FIELDS},
    "AgentDocument": {"schema": 1, **AGENT_FIELDS},
    "AgentDraftReset": {"version": 2},
    "AgentPublish": {"note": "Speaks Spanish too.", "activate": True},
    "AgentVersion": VERSION_FIELDS,
    "AgentVersionChoice": {"version": 2},
    "AgentVersionDetail": {
        **VERSION_FIELDS,
        "definition": {"name": "Front desk", "voice": "marin", "tools": [{"type": "builtin", "name": "end_call"}]},
    },
    "ToolAnswer": {"output": '{"state":"sent"}', "error": None, "receipt": RECEIPT_FIELDS},
    "BuiltinTool": {
        "name": "current_time",
        "description": "Tells date and time.",
        "by": "server",
        "settings": {"type": "object", "properties": {"time_zone": {"type": "string"}}},
    },
    "ToolCredential": TOOL_CREDENTIAL_FIELDS,
    "ToolImport": {
        "url": "https://shop.example.com/openapi.json",
        "server_url": "https://shop.example.com/v1",
        "operations": ["GET /orders/{id}"],
        "credentials": {"key": "shop_key"},
        "integration": "shop",
        "create": True,
    },
    "ImportedTools": {
        "title": "Shop",
        "schemes": {"key": "api_key"},
        "operations": [OPERATION_FIELDS],
        "created": ["getOrder"],
    },
    "McpServer": MCP_FIELDS,
    "OfferedTool": {**TOOL_FIELDS, "name": "find_slot", "needs_approval": False},
    "ImportedOperation": OPERATION_FIELDS,
    "Tool": TOOL_FIELDS,
    "ToolTry": {"arguments": {"order_id": "A-7"}, "variables": {"caller.language": "en"}},
    "Alert": {"month": "2027-01-01", "threshold": 50, "spent": "125.310000", "at": MORNING, "told_at": MORNING},
    "Budget": BUDGET_FIELDS,
    "BudgetShape": BUDGET_FIELDS,
    "Call": {"session_id": CALL, "began_at": MORNING, "agent": "front-desk", "key": KEY, **MONTH},
    "Check": {"answers": True, "model": "llama-3.3-70b", "first_token_ms": 212, "code": "", "message": ""},
    "CheckShape": {"model": "llama-3.3-70b"},
    "Certificate": {
        "certificate": '{"erased_at": "2027-01-15T08:00:00+00:00", "tenant": "hotel-aurora"}',
        "sha256": SHA256,
        "signature": "4uVb3k7Wm0Q2x9n5sYcJ8zT1rPfL6hDgAaEeIiOoUuBbCcDdFfGgHhJjKkLlMmNnPpQqRrSsTtVvWwXxYyZz0A==",
        "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "valid": True,
    },
    "Change": {"field": "greeting", "lines": ["--- before", "+++ after", "@@ -1 +1 @@", "-Hello!", "+Good morning!"]},
    "Choice": {"tenant": PLACES["slug"]},
    "Diff": {"from": "2", "to": "draft"},
    "Deletion": {"confirmation": PLACES["slug"], "reason": "The contract ended.", "grace_days": 30},
    "EmailDomain": {
        "domain": "hotel-aurora.example",
        "record_name": "_agentvoicebox.hotel-aurora.example",
        "record_text": "agentvoicebox-verification=Vn3kQ8sT1yZ6mB4wR9dF2hJ7pL5xC0gA",
        "created_at": MORNING,
        "verified_at": LATER,
    },
    "EndUserLimits": {"id": "eul_1b2d3e4f5061728394aabbcc", "limits": {"requests_per_minute": 20}, **TIMES},
    "Entry": {
        "seq": 42,
        "at": "2027-01-15T08:00:00.000001+00:00",
        "action": "agent.updated",
        "target": "front-desk",
        "actor_kind": "key",
        "actor_id": KEY,
        "actor_name": "Website",
        "before": {"voice": "marin"},
        "after": {"voice": "cedar"},
        "previous_hash": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
        "hash": SHA256,
    },
    "Erasure": JOB_FIELDS,
    "Export": JOB_FIELDS,
    "Hold": HOLD_FIELDS,
    "HoldRequest": {**HOLD_FIELDS, "end_user": "customer-4711"},
    "Invitation": {
        "id": 5,
        "email": "grace@example.com",
        "role": "developer",
        "invited_by": "ada@example.com",
        "created_at": MORNING,
        "expires_at": "2027-01-22T08:00:00Z",
        "mailed_at": MORNING,
        "accepted_at": None,
        "revoked_at": None,
    },
    "Key": KEY_FIELDS,
    "KeyChange": KEY_FIELDS,
    "KeyWithSecret": KEY_FIELDS,
    "Me": {
        "kind": "person",
        "id": "7",
        "name": "Ada Lovelace",
        "tenant": PLACES["slug"],
        "role": "viewer",
        "scopes": ["agents:read", "conversations:read"],
        "refusal": None,
    },
    "Member": {"id": 7, "name": "Ada Lovelace", "role": "admin", "created_at": MORNING},
    "NewEmailDomain": {"domain": "hotel-aurora.example"},
    "NewEndUserLimits": {"limits": {"requests_per_minute": 20}},
    "EndUserLimitsChange": {"limits": {"requests_per_minute": 10}},
    "NewInvitation": {"email": "grace@example.com", "role": "developer"},
    "NewKey": KEY_FIELDS,
    "NewOAuthClient": CLIENT_FIELDS,
    "NewTenant": {**TENANT_FIELDS, "plan": None},
    "OAuthClient": CLIENT_FIELDS,
    "OAuthClientChange": CLIENT_FIELDS,
    "OAuthSecret": CLIENT_FIELDS,
    "OwnTenant": {**PLACES, "role": "viewer"},
    "Part": {"index": 0, "samples": 1_474_560, "bytes": 3_112_960, "sha256": SHA256, "key_version": 1},
    "Plan": {"slug": "standard", "name": "Standard", "limits": LIMITS, "created_at": MORNING},
    "PlanChange": {"name": "Standard", "limits": LIMITS},
    "Price": PRICE_FIELDS,
    "PriceShape": PRICE_FIELDS,
    "Progress": {"step": "", "done": 58, "total": 58, "error": "", "at": MORNING},
    "Provider": PROVIDER_FIELDS,
    "ProviderShape": PROVIDER_FIELDS,
    "ReasonRequest": HOLD_FIELDS,
    "Recording": RECORDING_FIELDS,
    "RecordingDetail": RECORDING_FIELDS,
    "Detectable": {"kind": "card_number", "title": "Numbers of credit and debit cards"},
    "RedactionPolicy": {"kinds": ["card_number", "card_security_code", "iban"], "silence_recordings": True},
    "Report": {"from": "2027-01-01", "to": "2027-01-31"},
    "Role": {"role": "developer"},
    "Rotation": {"overlap_hours": 24},
    "RoutingOrder": {"rules": [ROUTING_RULE]},
    "RoutingRule": ROUTING_FIELDS,
    "RoutingTried": {"agent": "front-desk", "rule": ROUTING_RULE},
    "RoutingTry": {
        "channel": "websocket",
        "attributes": {"caller.tier": "gold"},
        "at": MORNING,
        "words": "Ich möchte einen Tisch bestellen.",
        "language": "de",
    },
    "Row": {"day": "2027-01-15", **MONTH},
    "SecretRotation": {"overlap_s": 3600},
    "Settings": {**TENANT_FIELDS, "retention_days": 90},
    "SingleSignOn": SIGN_ON_FIELDS,
    "SingleSignOnChange": SIGN_ON_FIELDS,
    "Standing": {
        "title": "REST requests and responses of calls, per minute",
        "level": "tenant",
        "source": "plan",
        "limit": 600,
        "used": 12.0,
        "remaining": 588.0,
        "window_s": 60,
        "reset_s": 41.5,
    },
    "StripeCustomer": {"customer_id": "cus_NffrFeUfNV2Hib", "metered_from": MORNING},
    "StripeCustomerShape": {"customer_id": "cus_NffrFeUfNV2Hib", "metered_from": MORNING},
    "Sum": MONTH,
    "Suspension": {"reason": "Three invoices are unpaid."},
    "Tenant": TENANT_FIELDS,
    "TriedRule": {**ROUTING_FIELDS, "outcome": "holds", "reason": "All its conditions hold."},
    "TenantChange": {**TENANT_FIELDS, "plan": None},
}
"""Fields that mean the same everywhere (``end_user``, ``currency``, …) are in ``tenants.api.examples``."""

LEFT_OUT = {"Row": {"month", "agent", "key", "provider", "model"}, "ToolImport": {"document"}}
"""Fields of another variant of the same shape."""

IN_PATHS: dict[str, dict[str, Any]] = {
    "features": {"name": "realtime_beta"},
    "invitations": {"invitation": 5},
    "limits": {"limits_id": "eul_1b2d3e4f5061728394aabbcc"},
    "members": {"person": 7},
    "oauth-clients": {"client_id": CLIENT},
    "plans": {"slug": "standard"},
    "prices": {"identity": 12},
    "providers": {"name": "own-vllm"},
    "sso": {"domain": "hotel-aurora.example"},
    "mcp-servers": {"label": "calendar"},
    "tenants": {"slug": PLACES["slug"]},
    "tool-credentials": {"name": "shop_key"},
    "tools": {"name": "order_status"},
}
"""Parameters of a path, by the operation's tag."""

FILES = {
    "agents": {"application/yaml": "# AgentVoiceBox agent, schema 1\nschema: 1\nslug: front-desk\nname: Front desk\n"},
    "audit": {
        "text/csv": "seq,at,action,target\r\n1,2027-01-15T08:00:00.000001+00:00,agent.created,front-desk\r\n",
        "application/x-ndjson": '{"seq": 1, "at": "2027-01-15T08:00:00.000001+00:00", "action": "agent.created"}\n',
    },
    "privacy": {"application/zip": "PK…"},
    "recordings": {"audio/wav": "RIFF…", "audio/flac": "fLaC…"},
    "usage": {"text/csv": "at,meter,quantity\r\n2027-01-15T08:00:00+00:00,audio_seconds_in,61.44\r\n"},
}
"""How a file begins, by the operation's tag and the media type."""


def resource_of(component: str) -> str:
    """``PatchedKeyChangeRequest`` is an example of ``KeyChange``."""
    name = component.removeprefix("Patched")
    return name if name in RESOURCES else name.removesuffix("Request")
