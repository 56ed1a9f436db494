"""Refusals of the room."""


class ToolboxError(Exception):
    """``errors`` maps the way to each field at fault, such as ``request.url``, to what is wrong with it."""

    code = "invalid"

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__("; ".join(f"{param}: {message}" for param, message in errors.items()))
        self.errors = errors


class ToolboxInvalid(ToolboxError):
    """A field is wrong."""


class NameTaken(ToolboxError):
    """Another one of the tenant has this name."""

    code = "name_taken"


class CredentialInUse(ToolboxError):
    """Tools or MCP servers name it."""

    code = "credential_in_use"


class ToolsInvalid(ToolboxError):
    """References to tools that cannot be published; by ``tools[2].name`` what is wrong."""


class ImportInvalid(ToolboxError):
    """A document, or what was chosen of it, cannot be imported."""
