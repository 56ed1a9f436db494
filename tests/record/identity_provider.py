"""A scripted OpenID Connect provider and a scripted DNS server, both on loopback.

The provider speaks the authorization code flow with PKCE for real: discovery, redirect, token endpoint, signed ID
tokens and userinfo. Scripted is whom it says has signed in: ``claims``. A tenant's own provider can do that, too.
"""

import base64
import hashlib
import json
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import dns.message
import dns.query
import dns.rrset
import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class IdentityProvider:
    CLIENT_ID, CLIENT_SECRET = "avb", "the-clients-secret-at-the-provider"

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.secrets_seen: list[str] = []
        self.discovery_status = 200
        provider = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, "")

            def do_POST(self) -> None:
                provider.answer(self, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def sign_in(self, address: str) -> str:
        """What the browser is sent to, after the person has signed in there."""
        return httpx2.get(address, follow_redirects=False).headers["Location"]

    def answer(self, request: BaseHTTPRequestHandler, body: str) -> None:
        parts = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(body or parts.query).items()}
        call = {
            "/.well-known/openid-configuration": self._discovery, "/authorize": self._authorize, "/token": self._token,
            "/userinfo": self._userinfo, "/jwks": self._jwks,
        }[parts.path]  # fmt: skip
        status, answer = call(asked)
        request.send_response(status)
        if status == 302:
            request.send_header("Location", answer)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(json.dumps(answer).encode())

    def _discovery(self, _: dict[str, str]) -> tuple[int, Any]:
        return self.discovery_status, {
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token", "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks", "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }  # fmt: skip

    def _authorize(self, asked: dict[str, str]) -> tuple[int, Any]:
        assert asked["client_id"] == self.CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return 302, f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def _token(self, asked: dict[str, str]) -> tuple[int, Any]:
        given = self.codes.pop(asked["code"], None)
        self.secrets_seen.append(asked["client_secret"])
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        proven = given and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == given["code_challenge"]
        if not proven or asked["redirect_uri"] != given["redirect_uri"] or asked["client_secret"] != self.CLIENT_SECRET:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.CLIENT_ID, "iat": now, "exp": now + 60} | self.claims
        id_token = jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "1"})
        return 200, {"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": id_token}

    def _userinfo(self, _: dict[str, str]) -> tuple[int, Any]:
        return 200, self.userinfo or self.claims

    def _jwks(self, _: dict[str, str]) -> tuple[int, Any]:
        return 200, {"keys": [json.loads(RSAAlgorithm.to_jwk(self.key.public_key())) | {"kid": "1", "alg": "RS256"}]}


class NameServer:
    """Answers TXT questions from ``texts``; for every other name it says that there is none."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            wire, sender = self.socket.recvfrom(4096)
            if not wire:
                return
            question = dns.message.from_wire(wire)
            name = question.question[0].name
            answer = dns.message.make_response(question)
            text = self.texts.get(name.to_text().rstrip("."))
            if text is None:
                answer.set_rcode(3)
            else:
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", f'"{text}"'))
            self.socket.sendto(answer.to_wire(), sender)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopper:
            stopper.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        self.socket.close()
