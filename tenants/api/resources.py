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

RESOURCES: dict[str, dict[str, Any]] = {
    "Alert": {"month": "2027-01-01", "threshold": 50, "spent": "125.310000", "at": MORNING, "told_at": MORNING},
    "Budget": BUDGET_FIELDS,
    "BudgetShape": BUDGET_FIELDS,
    "Call": {"session_id": CALL, "began_at": MORNING, "agent": "front-desk", "key": KEY, **MONTH},
    "Certificate": {
        "certificate": '{"erased_at": "2027-01-15T08:00:00+00:00", "tenant": "hotel-aurora"}',
        "sha256": SHA256,
        "signature": "4uVb3k7Wm0Q2x9n5sYcJ8zT1rPfL6hDgAaEeIiOoUuBbCcDdFfGgHhJjKkLlMmNnPpQqRrSsTtVvWwXxYyZz0A==",
        "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "valid": True,
    },
    "Choice": {"tenant": PLACES["slug"]},
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
    "ReasonRequest": HOLD_FIELDS,
    "Recording": RECORDING_FIELDS,
    "RecordingDetail": RECORDING_FIELDS,
    "Report": {"from": "2027-01-01", "to": "2027-01-31"},
    "Role": {"role": "developer"},
    "Rotation": {"overlap_hours": 24},
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
    "TenantChange": {**TENANT_FIELDS, "plan": None},
}
"""Fields that mean the same everywhere (``end_user``, ``currency``, …) are in ``tenants.api.examples``."""

LEFT_OUT = {"Row": {"month", "agent", "key", "provider", "model"}}
"""Fields of another variant of the same shape."""

IN_PATHS: dict[str, dict[str, Any]] = {
    "invitations": {"invitation": 5},
    "limits": {"limits_id": "eul_1b2d3e4f5061728394aabbcc"},
    "members": {"person": 7},
    "oauth-clients": {"client_id": CLIENT},
    "plans": {"slug": "standard"},
    "prices": {"identity": 12},
    "sso": {"domain": "hotel-aurora.example"},
    "tenants": {"slug": PLACES["slug"]},
}
"""Parameters of a path, by the operation's tag."""

FILES = {
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
