"""The tools of a client secret's session while it waits in Redis: what opens a client's MCP servers is sealed with the
tenant's data key. Neither function belongs on the event loop."""

import msgspec

from realtime.protocol.events import JsonObject
from realtime.runtime.secrets import SecretsUnavailable
from tenants.encryption.errors import EncryptionError
from tenants.encryption.sealing import seal, unseal

PURPOSE = "client_secret.tools"


def seal_tools(tenant: str, session: JsonObject) -> tuple[JsonObject, bytes]:
    """The session as it may be kept, and its tools, sealed, where an MCP server is among them: its address and its
    headers may hold credentials. Raises SecretsUnavailable."""
    tools = session.get("tools") or []
    if all(tool.get("type") != "mcp" for tool in tools):
        return session, b""
    try:
        sealed = seal(tenant, msgspec.json.encode(tools), purpose=PURPOSE)
    except EncryptionError as error:
        raise SecretsUnavailable(f"nothing can be sealed: {error.reason}") from error
    return {name: value for name, value in session.items() if name != "tools"}, sealed


def unseal_tools(tenant: str, session: JsonObject, sealed: bytes) -> JsonObject:
    """The session as it was asked for. Raises SecretsUnavailable."""
    if not sealed:
        return session
    try:
        tools = msgspec.json.decode(unseal(tenant, sealed, purpose=PURPOSE))
    except EncryptionError as error:
        raise SecretsUnavailable(f"a session's tools cannot be unsealed: {error.reason}") from error
    return {**session, "tools": tools}
