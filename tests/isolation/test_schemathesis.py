"""Requests made from the OpenAPI document, against the real application: nothing fails on our side, and every answer
is what the document says."""

from collections.abc import Iterator

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.isolation.walk import fill, is_owned, routes
from tests.record.test_openapi import DOCUMENT
from tests.record.world import World

EXAMPLES = 4
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# 405 and 413 may come from every address, and are said once, in docs/rest.md.
schema = schemathesis.openapi.from_dict(DOCUMENT)
schema.app = get_wsgi_application()
# The examples of the document, and a few requests drawn at random; its systematic walk would take many minutes.
schema.config.phases.coverage.enabled = False


@pytest.fixture
def one_connection() -> Iterator[None]:
    """As Django's own test client: a request neither begins nor ends with closing the test's connection."""
    both = (request_started, request_finished)
    for signal in both:
        signal.disconnect(close_old_connections)
    yield
    for signal in both:
        signal.connect(close_old_connections)


@pytest.fixture
def keys(one_connection: None, world: World, operator_key: str, settings) -> dict[bool, str]:
    """The key that opens an address, by whether it is the platform's; something of everything is there."""
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 1_000_000}
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 1_000_000
    for route in routes():
        if is_owned(route):
            fill(route, world.alpha)
    return {True: operator_key, False: world.alpha.key}


PLATFORM = {route.address.partition("<")[0] for route in routes() if route.is_platforms}


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_an_operation_keeps_to_the_document(keys: dict[bool, str], case: Case) -> None:
    path = case.path.removeprefix("/").partition("{")[0]
    case.call_and_validate(headers={"Authorization": f"Bearer {keys[path in PLATFORM]}"}, checks=CHECKS)
