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


class ScopeMissing(KeyRefused):
    """The key is good, but not for this."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        self.message = f"The API key lacks the scope {str(scope)!r}."
        super().__init__()
