"""Refusals of the operations of this app."""


class TenancyError(Exception):
    """Refused; ``param`` is the argument at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
