"""Who may do what: the whole matrix, printed (``pytest -s``) and held to the two tables that are written here.

``HELD`` says which role holds which scope; ``NEEDED`` says which scope each address of the platform API needs. The
second is compared with the URLconf, and then every address is asked by everybody: up to the point where it would be
answered, so that authentication and permission are real and nothing is done.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from rest_framework.views import APIView

from tenants.keys.operations import issue_key
from tenants.people.oauth.clients import create_client
from tenants.people.oauth.tokens import issue_token
from tenants.people.operations import add_member
from tenants.permissions import PLATFORM_SCOPES, ROLE_SCOPES, TENANT_SCOPES, Role, Scope
from tenants.rest import TenantAPIView
from tests.isolation.walk import Route, fill, routes
from tests.record.people import PLATFORM
from tests.record.world import World

# Each row: the scope, and who holds it. o owner, a admin, d developer, s support, v viewer, p platform operator.
HELD = """
realtime             o a d . . .
speech               o a d . . .
agents:read          o a d s v .
agents:write         o a d . . .
conversations:read   o a d s . .
conversations:write  o a d s . .
recordings:read      o a d s . .
members:read         o a d s v .
members:write        o a . . . .
keys:read            o a d . . .
keys:write           o a d . . .
limits:read          o a d s v .
limits:write         o a . . . .
usage:read           o a d s v .
usage:write          o a . . . .
audit:read           o a . . . .
privacy:write        o a . . . .
settings:read        o a d s v .
settings:write       o a . . . .
sso:write            o . . . . .
platform:tenants     . . . . . p
platform:plans       . . . . . p
platform:audit       . . . . . p
"""
ROLES = (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.SUPPORT, Role.VIEWER)

# Each row: the address, and for each of its methods the scope that it needs.
NEEDED = """
agents/                                   GET agents:read  POST agents:write
agents/<slug:slug>/                       GET agents:read  PATCH agents:write  DELETE agents:write
agents/<slug:slug>/activate/              POST agents:write
agents/<slug:slug>/apply/                 PUT agents:write
agents/<slug:slug>/diff/                  GET agents:read
agents/<slug:slug>/draft/                 PUT agents:write
agents/<slug:slug>/export/                GET agents:read
agents/<slug:slug>/publish/               POST agents:write
agents/<slug:slug>/releases/              GET agents:read
agents/<slug:slug>/rollback/              POST agents:write
agents/<slug:slug>/trials/                GET agents:read  POST agents:write
agents/<slug:slug>/trials/<uuid:trial_id>/ GET agents:read
agents/<slug:slug>/trials/<uuid:trial_id>/end/ POST agents:write
agents/<slug:slug>/versions/              GET agents:read
agents/<slug:slug>/versions/<int:number>/ GET agents:read
audit.csv                                 GET audit:read
audit.jsonl                               GET audit:read
audit/                                    GET audit:read
budgets/                                  GET usage:read  POST usage:write
budgets/<uuid:identity>/                  GET usage:read  PATCH usage:write  DELETE usage:write
conversations/                            GET conversations:read
conversations/<str:session_id>/           GET conversations:read
conversations/<str:session_id>/hold/      GET conversations:read  PUT conversations:write  DELETE privacy:write
conversations/<str:session_id>/items/     GET conversations:read
features/                                 GET platform:tenants
features/<slug:name>/                     GET platform:tenants  PATCH platform:tenants
invitations/                              GET members:read  POST members:write
invitations/<int:invitation>/             GET members:read  DELETE members:write
invitations/<int:invitation>/resend/      POST members:write
keys/                                     GET keys:read  POST keys:write
keys/<str:key_id>/                        GET keys:read  PATCH keys:write  DELETE keys:write
keys/<str:key_id>/rotate/                 POST keys:write
limits/                                   GET limits:read
limits/end-users/                         GET limits:read  POST limits:write
limits/end-users/<str:limits_id>/         GET limits:read  PATCH limits:write  DELETE limits:write
mcp-servers/                              GET agents:read  POST agents:write
mcp-servers/<slug:label>/                 GET agents:read  PATCH agents:write  DELETE agents:write
mcp-servers/<slug:label>/tools/           GET agents:write
me/                                       GET *  PATCH *
me/leave/                                 POST *
members/                                  GET members:read
members/<int:person>/                     GET members:read  PATCH members:write  DELETE members:write
oauth-clients/                            GET keys:read  POST keys:write
oauth-clients/<slug:client_id>/           GET keys:read  PATCH keys:write  DELETE keys:write
oauth-clients/<slug:client_id>/rotate/    POST keys:write
plans/                                    GET platform:plans  POST platform:plans
plans/<slug:slug>/                        GET platform:plans  PATCH platform:plans  DELETE platform:plans
platform/audit.csv                        GET platform:audit
platform/audit/                           GET platform:audit
prices/                                   GET platform:plans  POST platform:plans
prices/<int:identity>/                    GET platform:plans  DELETE platform:plans
privacy/erasures/                         GET privacy:write  POST privacy:write
privacy/erasures/<uuid:erasure_id>/       GET privacy:write
privacy/exports/                          GET privacy:write  POST privacy:write
privacy/exports/<uuid:export_id>/         GET privacy:write  DELETE privacy:write
privacy/exports/<uuid:export_id>/file/    GET privacy:write
privacy/holds/                            GET privacy:write  POST privacy:write
privacy/holds/<uuid:hold_id>/             GET privacy:write  DELETE privacy:write
providers/                                GET agents:read  POST agents:write
providers/<slug:name>/                    GET agents:read  PATCH agents:write  DELETE agents:write
providers/<slug:name>/check/              POST agents:write
recording-policy/                         GET settings:read  PATCH settings:write
recordings/                               GET recordings:read
recordings/<str:session_id>/              GET recordings:read  DELETE conversations:write
recordings/<str:session_id>/content/      GET recordings:read
redaction-policy/                         GET settings:read  PATCH settings:write
routing-rules/                            GET agents:read  POST agents:write
routing-rules/<uuid:rule_id>/             GET agents:read  PATCH agents:write  DELETE agents:write
routing-rules/order/                      GET agents:read  PUT agents:write
routing-rules/try/                        POST agents:read
sso/                                      GET settings:read  PUT sso:write  DELETE sso:write
sso/domains/                              GET settings:read  POST sso:write
sso/domains/<domain:domain>/              GET settings:read  DELETE sso:write
sso/domains/<domain:domain>/verify/       POST sso:write
tenant/                                   GET settings:read  PATCH settings:write
tenants/                                  GET platform:tenants  POST platform:tenants
tenants/<slug:slug>/                      GET platform:tenants  PATCH platform:tenants
tenants/<slug:slug>/certificate/          GET platform:tenants
tenants/<slug:slug>/delete/               POST platform:tenants
tenants/<slug:slug>/invitations/          POST platform:tenants
tenants/<slug:slug>/resume/               POST platform:tenants
tenants/<slug:slug>/retry/                POST platform:tenants
tenants/<slug:slug>/stripe/               GET platform:plans  PUT platform:plans  DELETE platform:plans
tenants/<slug:slug>/suspend/              POST platform:tenants
tenants/<slug:slug>/undelete/             POST platform:tenants
tool-credentials/                         GET agents:read  POST agents:write
tool-credentials/<slug:name>/             GET agents:read  PATCH agents:write  DELETE agents:write
tools/                                    GET agents:read  POST agents:write
tools/<slug:name>/                        GET agents:read  PATCH agents:write  DELETE agents:write
tools/<slug:name>/try/                    POST agents:write
tools/builtin/                            GET agents:read
tools/import/                             POST agents:write
tools/python/                             GET agents:read
usage.csv                                 GET usage:read
usage/                                    GET usage:read
usage/calls/                              GET usage:read
voices/                                   GET agents:read
voices/<str:voice>/                       GET agents:read
"""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def needed() -> dict[str, dict[str, str]]:
    """By address and method, the scope; ``*`` for whoever signed in."""
    table = {}
    for row in NEEDED.strip().splitlines():
        address, *pairs = row.split()
        table[f"api/v1/{address}"] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return table


def held() -> dict[str, set[str]]:
    """By the letter of who holds it, the scopes."""
    rows = [row.split() for row in HELD.strip().splitlines()]
    return {letter: {scope for scope, *marks in rows if letter in marks} for letter in "oadsvp"}


def test_roles_hold_the_scopes_that_are_written_here() -> None:
    print("\n" + " " * 21 + " ".join(role[:4].ljust(4) for role in (*ROLES, "oper")))
    for scope in Scope:
        marks = ["yes " if scope in ROLE_SCOPES[role] else "-   " for role in ROLES]
        print(scope.value.ljust(21) + " ".join([*marks, "yes" if scope in PLATFORM_SCOPES else "-"]))
    for letter, role in zip("oadsv", ROLES, strict=True):
        assert set(ROLE_SCOPES[role]) == held()[letter], role
    assert set(PLATFORM_SCOPES) == held()["p"]
    assert set(Scope) == {row.split()[0] for row in HELD.strip().splitlines()}
    assert set(ROLE_SCOPES) == set(Role)


def test_a_higher_role_may_whatever_a_lower_one_may() -> None:
    for higher, lower in itertools.pairwise(ROLES):
        assert ROLE_SCOPES[lower] < ROLE_SCOPES[higher]
    assert ROLE_SCOPES[Role.OWNER] == TENANT_SCOPES
    assert not TENANT_SCOPES & PLATFORM_SCOPES


def scopes_of(route: Route) -> dict[str, str]:
    view = route.view
    found = {}
    for method in METHODS:
        if hasattr(view, method.lower()):
            name = "read_scope" if method == "GET" else "write_scope"
            if method == "DELETE" and hasattr(view, "delete_scope"):
                name = "delete_scope"
            found[method] = str(getattr(view, name, "*"))
    return found


def test_every_address_needs_the_scope_that_is_written_here() -> None:
    found = {route.address: scopes_of(route) for route in routes()}
    assert found == needed()


def test_only_what_tells_who_one_is_needs_no_scope() -> None:
    open_to_all = {address for address, methods in needed().items() if "*" in methods.values()}
    assert open_to_all == {"api/v1/me/", "api/v1/me/leave/"}


Ask = Callable[[str, str], Any]


@pytest.fixture
def everybody(world: World) -> dict[str, tuple[Ask, set[str] | None]]:
    """Everybody by name: how they ask, and the scopes that they hold; None for who is nobody."""
    alpha = world.alpha

    def by_session(user: Any, host: str) -> Ask:
        client = Client(headers={"Host": host}, raise_request_exception=False)
        client.force_login(user)
        return lambda method, path: client.generic(method, path, "", content_type="application/json")

    def by_header(secret: str) -> Ask:
        client = Client(headers={"Authorization": f"Bearer {secret}"}, raise_request_exception=False)
        return lambda method, path: client.generic(method, path, "", content_type="application/json")

    people: dict[str, tuple[Ask, set[str] | None]] = {}
    for letter, role in zip("oadsv", ROLES, strict=True):
        user = add_member(tenant=alpha.tenant, email=f"{role}@roles.localhost", role=role).user
        people[role.value] = by_session(user, alpha.host), held()[letter]
    some = {Scope.AGENTS_READ.value, Scope.KEYS_WRITE.value, Scope.USAGE_READ.value}
    client, _ = create_client(tenant=alpha.tenant, name="some", scopes=some)
    strong, _ = create_client(tenant=alpha.tenant, name="all", scopes=TENANT_SCOPES)
    everything = {scope.value for scope in TENANT_SCOPES}
    people |= {
        "key, some": (by_header(issue_key(tenant=alpha.tenant, name="some", scopes=some)[1]), some),
        "key, all": (by_header(issue_key(tenant=alpha.tenant, name="all", scopes=everything)[1]), everything),
        "client, some": (by_header(issue_token(client, client.scopes)), some),
        "client, all": (by_header(issue_token(strong, strong.scopes)), everything),
        "operator": (by_session(world.operator, PLATFORM), held()["p"]),
        "operator, there": (by_session(world.operator, alpha.host), set()),
        "beta's owner": (by_session(world.beta.owner, alpha.host), set()),
        "outsider": (by_session(world.outsider, alpha.host), set()),
        "homeless": (by_session(world.outsider, PLATFORM), set()),
        "nobody": (lambda method, path: Client().generic(method, path), None),
    }
    return people


ADMITTED = 299


def test_the_whole_matrix(
    world: World, everybody: dict[str, tuple[Ask, set[str] | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TenantAPIView, "_read_or_write", lambda *_: HttpResponse(status=ADMITTED))
    monkeypatch.setattr(APIView, "check_throttles", lambda *_: None)
    print("\ncolumns: " + "; ".join(everybody))
    wrong = []
    for route in routes():
        path = fill(route, world.alpha)
        for method, scope in needed()[route.address].items():
            marks = []
            for name, (ask, scopes) in everybody.items():
                needs_tenant = getattr(route.view, "needs_tenant", True)
                acts = name not in ("operator", "operator, there", "beta's owner", "outsider", "homeless")
                if scopes is None:
                    expected = 401
                elif scope == "*":
                    expected = ADMITTED if acts or not needs_tenant or name == "operator" else 403
                else:
                    expected = ADMITTED if scope in scopes else 403
                answer = ask(method, path)
                marks.append({ADMITTED: "yes", 403: "-", 401: "?"}.get(answer.status_code, str(answer.status_code)))
                if answer.status_code != expected:
                    wrong.append(f"{method} {path} by {name}: {answer.status_code}, not {expected}")
                elif expected != ADMITTED:
                    assert json.loads(answer.content)["error"]["code"], (method, path, name)
            print(
                f"{method:6} {route.address.removeprefix('api/v1/'):44} {scope:20} {' '.join(f'{m:3}' for m in marks)}"
            )
    assert not wrong, "\n".join(wrong)
