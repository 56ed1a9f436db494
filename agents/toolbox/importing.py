"""Making tools of what an OpenAPI document offers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.db import transaction

from agents.toolbox.errors import ImportInvalid, ToolboxError
from agents.toolbox.models import Credential, Tool
from agents.toolbox.openapi import Document, Operation
from agents.toolbox.operations import create_tool
from agents.toolbox.shapes import check_parameters, check_request

TOOLS = 100
"""Made at once."""


def choose_operations(document: Document, keys: Sequence[str] | None) -> tuple[Operation, ...]:
    """Those that are named (``GET /orders/{id}``), or all; what our own rules refuse of them is their ``problem``.
    Raises ImportInvalid."""
    known = {operation.key: operation for operation in document.operations}
    for number, key in enumerate(keys or ()):
        if key not in known:
            raise ImportInvalid({f"operations[{number}]": f"There is no operation {key[:200]!r} in the document."})
    chosen = document.operations if keys is None else tuple(known[key] for key in dict.fromkeys(keys))
    return tuple(map(_checked, chosen))


@transaction.atomic
def import_operations(
    *, operations: Sequence[Operation], all_of_them: bool, credentials: Mapping[str, str], integration: str = ""
) -> list[Tool]:
    """``credentials``: by the name of a security scheme that of a credential. What cannot be a tool is left out where
    ``all_of_them`` was asked for, and refused where it was chosen. Raises ImportInvalid, also for what making a tool
    raises."""
    usable = [operation for operation in operations if not (all_of_them and operation.problem)]
    if not 1 <= len(usable) <= TOOLS:
        raise ImportInvalid({"operations": f"There may be 1 to {TOOLS} at once; there are {len(usable)}. Choose some."})
    rows = {row.name: row for row in Credential.objects.filter(name__in=set(credentials.values()))}
    for scheme, name in credentials.items():
        if name not in rows:
            raise ImportInvalid({f"credentials.{scheme}": f"There is no credential {name[:64]!r}."})
    made = []
    for operation in usable:
        if operation.problem:
            raise ImportInvalid({operation.key: operation.problem})
        row = next((rows[credentials[scheme]] for scheme in operation.security if scheme in credentials), None)
        if row is None and not operation.is_open:
            needed = " or ".join(operation.security) or "more than one scheme at once"
            raise ImportInvalid({"credentials": f"{operation.key} needs a credential for {needed}."})
        made.append(_make(operation, row, integration))
    return made


def _make(operation: Operation, credential: Credential | None, integration: str) -> Tool:
    fields: dict[str, Any] = {
        "name": operation.name,
        "description": operation.description,
        "parameters": operation.parameters,
        "request": operation.request,
        "credential": credential,
        "integration": integration,
    }
    try:
        return create_tool(**fields)
    except ToolboxError as error:
        refused = ImportInvalid({f"{operation.key}: {param}": words for param, words in error.errors.items()})
        refused.code = error.code
        raise refused from error


def _checked(operation: Operation) -> Operation:
    if operation.problem:
        return operation
    try:
        check_parameters(operation.parameters)
        check_request(operation.request, {}, operation.parameters)
    except ToolboxError as error:
        return replace(operation, problem=str(error), request={}, parameters={})
    return operation
