"""What can be done to tools, MCP servers and credentials. Runs inside the tenant's schema; each function is one
transaction. What a secret is stays out of the audit: only that there is another one."""

from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, models, transaction

from agents.toolbox.credentials import WHERE, check_credential, check_use
from agents.toolbox.errors import CredentialInUse, NameTaken, ToolboxInvalid
from agents.toolbox.hosts import check_hosts, is_inside, is_narrower
from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.shapes import check_json, check_parameters, check_request, check_server
from tenants.audit.operations import changes, record

TOOL_FIELDS = {
    "name", "description", "parameters", "request", "response", "timeout_ms", "integration", "calls_per_minute",
    "credential", "is_enabled",
}  # fmt: skip
SERVER_FIELDS = {
    "label", "url", "headers", "credential", "allowed_tools", "require_approval", "timeout_ms", "calls_per_minute",
    "is_enabled",
}  # fmt: skip
CREDENTIAL_FIELDS = {"name", "kind", "config", "secret", "hosts"}
AUDITED = {
    Tool: ("tool", TOOL_FIELDS),
    McpServer: ("mcp_server", SERVER_FIELDS - {"headers"}),
    Credential: ("tool_credential", CREDENTIAL_FIELDS - {"secret"}),
}
JSON_FIELDS = {
    "parameters",
    "request",
    "response",
    "headers",
    "allowed_tools",
    "require_approval",
    "config",
    "secret",
    "hosts",
}
RESERVED = {"builtin", "import", "python"}
"""Addresses under /api/v1/tools/ that are no tool's."""
Row = TypeVar("Row", Tool, McpServer, Credential)


@transaction.atomic
def create_tool(**fields: Any) -> Tool:
    """Raises ToolboxInvalid and NameTaken."""
    return _save(Tool(), TOOL_FIELDS, fields)


@transaction.atomic
def update_tool(*, tool: Tool, **fields: Any) -> Tool:
    """Change the named fields only; published agents keep the tool as it was. Raises ToolboxInvalid and NameTaken."""
    return _save(_lock(tool), TOOL_FIELDS, fields)


@transaction.atomic
def delete_tool(*, tool: Tool) -> None:
    """Published agents keep it as it was."""
    _delete(tool)


@transaction.atomic
def create_mcp_server(**fields: Any) -> McpServer:
    """Raises ToolboxInvalid and NameTaken."""
    return _save(McpServer(), SERVER_FIELDS, fields)


@transaction.atomic
def update_mcp_server(*, server: McpServer, **fields: Any) -> McpServer:
    """Change the named fields only. Headers are sent along to wherever the server is, so with another host they must be
    given anew. Raises ToolboxInvalid and NameTaken."""
    server = _lock(server)
    if fields.get("url", server.url) != server.url and server.headers and "headers" not in fields:
        raise ToolboxInvalid({"headers": "With another url the headers, which hold secrets, must be given anew."})
    return _save(server, SERVER_FIELDS, fields)


@transaction.atomic
def delete_mcp_server(*, server: McpServer) -> None:
    """Published agents lose its tools with the calls that begin from now on: its headers are gone."""
    _delete(server)


@transaction.atomic
def create_credential(**fields: Any) -> Credential:
    """Raises ToolboxInvalid and NameTaken."""
    return _save(Credential(), CREDENTIAL_FIELDS, fields)


@transaction.atomic
def update_credential(*, credential: Credential, **fields: Any) -> Credential:
    """Change the named fields only; calls that begin from now on use it. Where it is sent to, and as what, changes only
    together with the secret; to fewer ``hosts`` it can be bound without. Raises ToolboxInvalid and NameTaken."""
    credential = _lock(credential)
    if "secret" not in fields:
        hosts = fields.get("hosts", credential.hosts)
        check_hosts(hosts)
        if not is_narrower(hosts, credential.hosts):
            raise ToolboxInvalid({"secret": "When hosts are added, the secret must be given anew."})
        moved = fields.get("kind", credential.kind) != credential.kind
        config = fields.get("config", credential.config)
        ways = WHERE.get(credential.kind, ())
        moved = moved or (isinstance(config, dict) and any(config.get(n) != credential.config.get(n) for n in ways))
        if moved:
            named = ", ".join(("kind", *ways))
            raise ToolboxInvalid({"secret": f"When {named} changes, the secret must be given anew."})
    return _save(credential, CREDENTIAL_FIELDS, fields)


@transaction.atomic
def delete_credential(*, credential: Credential) -> None:
    """Raises CredentialInUse. Calls of published agents that used it begin without those tools from now on."""
    try:
        _delete(credential)
    except models.ProtectedError as error:
        names = sorted(str(row) for row in error.protected_objects)
        shown = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
        raise CredentialInUse({"name": f"{credential.name} is used by {shown}."}) from error


def _lock(row: Row) -> Row:
    """As it stands in the database: a caller's object may have been changed already, or be older than what another
    request has written since."""
    return type(row).objects.select_for_update(of=("self",)).get(pk=row.pk)


def _save(row: Row, known: set[str], fields: dict[str, Any]) -> Row:
    if unknown := sorted(fields.keys() - known):
        raise ToolboxInvalid({unknown[0]: "There is no such field."})
    before, called = (None, None) if row._state.adding else (_shown(row), str(row))
    for name, value in fields.items():
        setattr(row, name, value)
    try:
        # Uniqueness is the database's to decide: asking first would only race.
        row.full_clean(exclude=["secret", "headers"], validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise ToolboxInvalid({name: words[0] for name, words in error.message_dict.items()}) from error
    if isinstance(row, Tool) and row.name in RESERVED:
        raise ToolboxInvalid({"name": f"{row.name!r} is a word of our addresses: choose another name."})
    check(row)
    if called is not None and str(row) != called:
        raise ToolboxInvalid({_key(row): "Agents and their versions name it so: make another one of that name."})
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        raise NameTaken({_key(row): f"There is another one of the name {row}."}) from error
    _record(row, before, fields)
    return row


def check(row: models.Model) -> None:
    """What is stored in JSON. Raises ToolboxInvalid."""
    for name in JSON_FIELDS & {field.name for field in row._meta.fields}:
        check_json(getattr(row, name), name)
    match row:
        case Tool():
            check_parameters(row.parameters)
            check_request(row.request, row.response, row.parameters)
            check_use(row.credential, row.request["url"])
        case McpServer():
            check_server(row.url, row.headers, row.allowed_tools, row.require_approval)
            check_use(row.credential, row.url)
        case Credential():
            check_credential(row.kind, row.config, row.secret)
            check_hosts(row.hosts)
            _check_uses(row)


def _check_uses(credential: Credential) -> None:
    """Raises ToolboxInvalid where what names it lies elsewhere."""
    if not credential.hosts or credential._state.adding:
        return
    places = [(tool.name, tool.request["url"]) for tool in credential.tools.all()]
    places += credential.mcp_servers.values_list("label", "url")
    if elsewhere := sorted(name for name, url in places if not is_inside(credential.hosts, url)):
        words = f"{', '.join(elsewhere[:5])} would be elsewhere, with this credential: change what asks there first."
        raise ToolboxInvalid({"hosts": words})


def _record(row: Row, before: dict[str, Any] | None, fields: dict[str, Any]) -> None:
    noun, _ = AUDITED[type(row)]
    schema = connection.schema_name
    if before is None:
        record(action=f"{noun}.created", target=str(row), after=_shown(row), tenant=schema)
        return
    old, new = changes(before, _shown(row))
    # That there is another secret is worth an entry, and all that one may know of it.
    new |= {f"{name}_replaced": True for name in ("secret", "headers") if name in fields}
    if new:
        record(action=f"{noun}.updated", target=str(row), before=old, after=new, tenant=schema)


def _delete(row: Row) -> None:
    noun, _ = AUDITED[type(row)]
    before, target = _shown(row), str(row)
    row.delete()
    record(action=f"{noun}.deleted", target=target, before=before, tenant=connection.schema_name)


def _shown(row: Row) -> dict[str, Any]:
    _, names = AUDITED[type(row)]
    shown = {name: getattr(row, name) for name in sorted(names)}
    if isinstance(shown.get("credential"), Credential):
        shown["credential"] = shown["credential"].name
    return shown


def _key(row: models.Model) -> str:
    return "label" if isinstance(row, McpServer) else "name"
