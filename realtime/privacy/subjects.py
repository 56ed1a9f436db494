"""What stands for an end user in audit logs, tombstones and job rows."""

import hmac
from collections.abc import Iterable

from realtime.privacy.models import SubjectKey

PREFIX = "eu_"
DIGITS = 32
END_USER_CHARACTERS = 512


class EndUserInvalid(ValueError):
    """This names no end user."""

    def __init__(self) -> None:
        self.message = f"An end user is named by 1 to {END_USER_CHARACTERS} characters without NUL."
        super().__init__(self.message)


def subjects_of(end_users: Iterable[str]) -> dict[str, str]:
    """By end user: the same for the same one of the same tenant; tells nobody who it is. Raises EncryptionError."""
    row, _ = SubjectKey.objects.get_or_create(pk=1)
    key = bytes.fromhex(row.key)
    return {person: PREFIX + hmac.new(key, person.encode(), "sha256").hexdigest()[:DIGITS] for person in end_users}


def subject_of(end_user: str) -> str:
    return subjects_of([end_user])[end_user]


def check_end_user(end_user: str) -> str:
    """Raises EndUserInvalid."""
    if not 1 <= len(end_user) <= END_USER_CHARACTERS or "\0" in end_user:
        raise EndUserInvalid
    return end_user
