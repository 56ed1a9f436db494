"""What a fresh process of ``fleet`` is told to do. Nothing here imports a model before Django is set up."""

from typing import Any

import django


def set_up() -> None:
    django.setup()


def migrate(slug: str) -> Any:
    from tenants.lifecycle.fleet import migrate_one

    return migrate_one(slug)
