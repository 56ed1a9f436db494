"""Where mail goes: the address in the environment, and what is wrong with one."""

from pathlib import Path

import pytest
from django.core.mail import EmailMessage, get_connection
from django.test import override_settings
from environs import ValidationError

from tenants.people.mail_url import read_mail_url
from tests.record.test_settings import start


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", {"EMAIL_HOST": "mail.example", "EMAIL_PORT": 25, "EMAIL_USE_TLS": False}),
        ("smtp+tls://mail.example", {"EMAIL_PORT": 587, "EMAIL_USE_TLS": True, "EMAIL_USE_SSL": False}),
        ("smtps://mail.example", {"EMAIL_PORT": 465, "EMAIL_USE_TLS": False, "EMAIL_USE_SSL": True}),
        (
            "smtp+tls://me%40x.example:p%3Aw@mail.example:2525",
            {"EMAIL_HOST_USER": "me@x.example", "EMAIL_HOST_PASSWORD": "p:w", "EMAIL_PORT": 2525, "EMAIL_TIMEOUT": 3},
        ),
        ("console:", {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}),
        ("file:///var/mail%20box", {"EMAIL_FILE_PATH": "/var/mail box"}),
    ],
)
def test_an_address_becomes_djangos_settings(url: str, expected: dict) -> None:
    assert read_mail_url(url, 3).items() >= expected.items()


@pytest.mark.parametrize(
    "url", ["", "mail.example", "smtp://", "http://mail.example", "file:", "smtp://x?tls=1", "smtp://x:port"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        read_mail_url(url, 3)


def test_a_wrong_address_stops_the_start_with_the_variables_name_and_without_its_password() -> None:
    result = start(AVB_EMAIL_URL="imap://user:the-password@mail.example")
    assert result.returncode != 0
    assert "AVB_EMAIL_URL" in result.stderr.strip().splitlines()[-1]
    assert "the-password" not in result.stderr


def test_mail_lies_in_a_folder_in_dev(tmp_path: Path) -> None:
    with override_settings(**read_mail_url(f"file://{tmp_path}/mail", 3)):
        EmailMessage("Hello", "Words", "a@x.example", ["b@x.example"], connection=get_connection()).send()
    assert "Words" in next((tmp_path / "mail").iterdir()).read_text()
