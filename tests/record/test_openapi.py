"""The committed OpenAPI document is what the code says."""

from io import StringIO
from pathlib import Path

import yaml
from django.core.management import call_command

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.yaml"


def test_the_document_is_up_to_date_and_without_warnings() -> None:
    out = StringIO()
    call_command("spectacular", stdout=out, fail_on_warn=True, validate=True)
    assert out.getvalue() == COMMITTED.read_text(), "run: python manage.py spectacular --file docs/openapi.yaml"


def test_every_operation_names_its_errors_and_wraps_its_answer() -> None:
    document = yaml.safe_load(COMMITTED.read_text())
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"400", "401", "403", "503"} <= operation["responses"].keys()
            assert ("404" in operation["responses"]) is ("{" in path)
            for status, response in operation["responses"].items():
                if status.startswith("2") and "content" in response:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema["required"] == ["status", "data"]
