"""Why a key, a token or a client secret opens nothing. No Django here: the live world names these too."""


class KeyRefused(Exception):
    """The key opens nothing. ``code`` and ``message`` are safe to show to whoever brought it."""

    code = "invalid_api_key"
    message = "The API key is not valid."

    def __init__(self) -> None:
        super().__init__(self.message)


class InvalidKey(KeyRefused):
    """No such key."""


class KeyRevoked(InvalidKey):
    """The key was revoked."""

    code = "api_key_revoked"
    message = "The API key was revoked."


class KeyExpired(KeyRefused):
    """The key's time is over."""

    code = "api_key_expired"
    message = "The API key has expired."


class TenantSuspended(KeyRefused):
    """The key is good, but its tenant opens nothing: it is being made, suspended or being deleted."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__()


class AddressRefused(KeyRefused):
    """The key may not be used from this IP address."""

    code = "ip_not_allowed"

    def __init__(self, address: str) -> None:
        self.message = f"This API key may not be used from the IP address {address or 'unknown'}."
        super().__init__()


LACKING = {
    "key": "The API key lacks",
    "client": "The OAuth client's token lacks",
    "person": "Your role in this tenant lacks",
    "operator": "This platform operator lacks",
    "system": "The system lacks",
}
"""By the kind of ``tenants.principal.Principal``."""


class ScopeMissing(KeyRefused):
    """Whoever asks is known, but not for this. ``kind`` as in ``tenants.principal.Principal``."""

    code = "insufficient_scope"

    def __init__(self, scope: str, kind: str) -> None:
        self.message = f"{LACKING[kind]} the scope {str(scope)!r}."
        super().__init__()


class MemberRemoved(KeyRefused):
    """The person does not belong to the tenant any more, or their account is closed."""

    code = "member_removed"
    message = "Whoever made this client secret does not belong to the tenant any more."
