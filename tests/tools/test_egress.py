"""What a tenant can make this server ask for: addresses that are public, for so long, and so much."""

import asyncio
import contextlib
import datetime
import gzip
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agents.egress import client as client_module
from agents.egress.addresses import EgressRefused
from agents.egress.client import EgressClient, open_client
from agents.egress.config import EgressConfig, EgressInvalid
from tests.tools.servers import Asked, HttpServer, http_server, reply

# 127.0.0.1 stands for what may be asked, every other address of loopback for the network behind it.
LOOPBACK = EgressConfig(private_networks=(ip_network("127.0.0.1/32"),), max_bytes=50_000, connect_s=1, total_s=2)
FORBIDDEN = "127.0.0.2"


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    async with open_client(LOOPBACK) as found:
        yield found


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with http_server() as found:
        found.answers["/"] = reply(200, b"welcome")
        yield found


@pytest.fixture
async def forbidden() -> AsyncIterator[HttpServer]:
    async with http_server(FORBIDDEN) as found:
        found.answers["/"] = reply(200, b"secrets of our own")
        yield found


async def refusal(client: EgressClient, url: str, **options: object) -> EgressRefused:
    with pytest.raises(EgressRefused) as refused:
        await client.get(url, **options)  # type: ignore[arg-type]
    return refused.value


async def test_what_operators_allow_is_asked(client: EgressClient, server: HttpServer) -> None:
    assert (await client.get(server.url)).text == "welcome"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2", "2130706434", "0x7f000002", "0x7f.0.0.2", "127.2", "localhost", "0", "0.0.0.0",  # noqa: S104
        "[::1]", "[::]", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "[::127.0.0.2]", "[64:ff9b::7f00:2]",
        "[64:ff9b:1::7f00:2]", "[2002:7f00:2::]", "[fd00:ec2::254]", "[fe80::1]", "[fec0::1]", "[ff02::1]",
        "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.1",
        "255.255.255.255", "192.0.2.1",
    ],
)  # fmt: skip
async def test_no_address_of_our_own_network_is_asked(host: str, forbidden: HttpServer) -> None:
    async with open_client(EgressConfig(private_networks=(ip_network("10.9.0.0/16"),), http=True)) as client:
        refused = await refusal(client, f"http://{host}:{forbidden.port}/")
    assert refused.reason == "address"
    assert forbidden.connections == 0


@pytest.mark.parametrize("host", ["0177.0.0.2", "[fe80::1%25lo]", "localhost.", "127.0.0.2%00.example", "\u2460.0.0.2"])
async def test_ways_to_write_an_address_that_nobody_understands(host: str, forbidden: HttpServer) -> None:
    async with open_client(EgressConfig(http=True)) as client:
        with pytest.raises((httpx2.TransportError, httpx2.InvalidURL)):
            await client.get(f"http://{host}:{forbidden.port}/")
    assert forbidden.connections == 0


async def test_by_default_nothing_private_is_asked(server: HttpServer) -> None:
    async with open_client(EgressConfig()) as client:
        assert (await refusal(client, server.url)).reason == "address"


async def test_a_name_is_asked_at_the_address_that_was_checked(server: HttpServer, forbidden: HttpServer) -> None:
    """The name changes its mind after the first answer; the second answer is checked like the first."""
    answers = iter([["127.0.0.1"], [FORBIDDEN]])
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    async with open_client(LOOPBACK, resolve=rebinding) as client:
        server.answers["/"] = reply(200, b"welcome", Connection="close")
        url = f"http://rebinding.example:{server.port}/"
        first = await client.get(url)
        assert (first.text, server.asked[0].headers["host"]) == ("welcome", f"rebinding.example:{server.port}")
        assert asked == ["rebinding.example"], "one answer is checked and used"
        await asyncio.sleep(0.05)
        assert (await refusal(client, url)).reason == "address"
    assert (asked, forbidden.connections) == (["rebinding.example"] * 2, 0)


async def test_of_several_addresses_only_allowed_ones_are_tried(server: HttpServer) -> None:
    async def many(host: str, port: int) -> list[str]:
        return [FORBIDDEN, "10.0.0.1", "127.0.0.1"]

    async with open_client(LOOPBACK, resolve=many) as client:
        assert (await client.get(f"http://many.example:{server.port}/")).text == "welcome"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_checked_like_a_request(
    client: EgressClient, server: HttpServer, forbidden: HttpServer, status: int
) -> None:
    server.answers["/"] = reply(status, Location=forbidden.url)
    assert (await refusal(client, server.url, follow_redirects=True)).reason == "address"
    assert forbidden.connections == 0
    assert (await client.get(server.url)).status_code == status, "followed only where the caller says so"


async def test_credentials_stay_at_their_origin(client: EgressClient, server: HttpServer) -> None:
    secrets = {"Authorization": "Bearer token", "X-Api-Key": "key", "Cookie": "a=b", "Accept": "text/plain"}
    async with http_server() as other:
        other.answers["/"] = reply(200, b"hello")
        server.answers["/"] = reply(302, Location="/here")
        server.answers["/here"] = reply(302, Location=other.url)
        response = await client.get(server.url, headers=secrets, auth=("ann", "pass"), follow_redirects=True)
        assert (response.text, len(response.history)) == ("hello", 2)
        assert server.asked[1].headers["x-api-key"] == "key"
        assert server.asked[1].headers["authorization"].startswith("Basic ")
        there = other.asked[0].headers
        assert not {"authorization", "x-api-key", "cookie"} & set(there)
        assert (there["accept"], there["host"]) == ("text/plain", f"127.0.0.1:{other.port}")


async def test_what_was_sent_goes_to_no_other_origin(client: EgressClient, server: HttpServer) -> None:
    async with http_server() as other:
        server.answers["/"] = reply(307, Location=other.url)
        with pytest.raises(EgressRefused) as refused:
            await client.post(server.url, data={"client_secret": "s"}, follow_redirects=True)
        assert (refused.value.reason, other.asked) == ("redirect", [])
        server.answers["/"] = reply(307, Location="/next")
        server.answers["/next"] = reply(200, b"done")
        assert (await client.post(server.url, content=b"words", follow_redirects=True)).text == "done"
        assert server.asked[-1].body == b"words"


async def test_redirects_end(client: EgressClient, server: HttpServer) -> None:
    server.answers["/"] = reply(302, Location="/")
    with pytest.raises(httpx2.TooManyRedirects):
        await client.get(server.url, follow_redirects=True)
    assert len(server.asked) == 6


async def test_an_address_holds_no_credentials(client: EgressClient, server: HttpServer) -> None:
    assert (await refusal(client, f"http://ann:pass@127.0.0.1:{server.port}/")).reason == "credentials"
    server.answers["/"] = reply(302, Location=f"http://ann:pass@127.0.0.1:{server.port}/")
    assert (await refusal(client, server.url, follow_redirects=True)).reason == "credentials"


async def test_only_https_but_where_operators_say_so(client: EgressClient, server: HttpServer) -> None:
    async def public(host: str, port: int) -> list[str]:
        return ["93.184.215.14"]

    async with open_client(LOOPBACK, resolve=public) as strict:
        assert (await refusal(strict, "http://tools.example/")).reason == "scheme"
    for url in ("ftp://tools.example/", "file:///etc/passwd", "unix:///run/docker.sock"):
        assert (await refusal(client, url)).reason == "scheme"


async def test_the_environment_gives_no_proxy_and_no_credentials(
    server: HttpServer, forbidden: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password pass\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, forbidden.url)
    async with open_client(LOOPBACK) as client:
        assert (await client.get(server.url)).text == "welcome"
    assert "authorization" not in server.asked[0].headers
    assert forbidden.connections == 0


async def test_no_cookie_is_kept_for_the_next_who_asks(client: EgressClient, server: HttpServer) -> None:
    server.answers["/"] = reply(200, b"", Set_Cookie="session=secret; Path=/")
    await client.get(server.url)
    await client.get(server.url)
    assert "cookie" not in server.asked[1].headers


async def test_a_connection_serves_several_requests(client: EgressClient, server: HttpServer) -> None:
    for _ in range(3):
        await client.get(server.url)
    assert server.connections == 1


async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, without end: each within any time limit of a read."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_head(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Long: x\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("answer", [drip, drip_head])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_time_limit_is_for_all_of_an_answer(server: HttpServer, answer: object, stream: bool) -> None:
    server.answers["/"] = answer  # type: ignore[assignment]
    began = time.monotonic()
    async with open_client(LOOPBACK, total_s=0.5) as client:
        response = client.send(client.build_request("GET", server.url), stream=stream)
        with pytest.raises(httpx2.ReadTimeout, match=r"0\.5 s"):
            await (await response).aread()
    assert time.monotonic() - began < 5


async def test_the_time_limit_is_for_all_redirects_together(server: HttpServer) -> None:
    async def later(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(reply(302, Location="/"))

    server.answers["/"] = later
    async with open_client(LOOPBACK, total_s=0.5) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(server.url, follow_redirects=True)


async def test_a_name_that_is_not_resolved_in_time() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        raise AssertionError

    async with open_client(EgressConfig(connect_s=0.2), resolve=never) as client:
        with pytest.raises(httpx2.ConnectTimeout, match=r"tools\.example was not resolved"):
            await client.get("https://tools.example/")


async def test_a_name_that_is_nobodys(client: EgressClient) -> None:
    with pytest.raises(httpx2.ConnectError, match="cannot be resolved"):
        await client.get("https://nobody.invalid/")


def deflated(body: bytes) -> bytes:
    return zlib.compress(body)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", deflated)])
async def test_compressed_answers_are_read(
    client: EgressClient, server: HttpServer, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = bytes(range(256)) * 150
    server.answers["/"] = reply(200, compress(body), Content_Encoding=encoding)
    assert (await client.get(server.url)).content == body


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"x" * 50_001),
        reply(200, gzip.compress(b"\0" * 100_000_000), Content_Encoding="gzip"),
        reply(200, zlib.compress(b"\0" * 50_001), Content_Encoding="deflate"),
    ],
    ids=["plain", "gzip bomb", "deflate"],
)
async def test_an_answer_that_is_too_long_is_left(client: EgressClient, server: HttpServer, answer: bytes) -> None:
    server.answers["/"] = answer
    assert (await refusal(client, server.url)).reason == "size"
    server.answers["/"] = reply(200, b"x" * 50_000)
    assert len((await client.get(server.url)).content) == 50_000


async def test_other_compressions_and_broken_ones_are_refused(client: EgressClient, server: HttpServer) -> None:
    server.answers["/"] = reply(200, b"x", Content_Encoding="br")
    assert (await refusal(client, server.url)).reason == "encoding"
    server.answers["/"] = reply(200, b"no gzip", Content_Encoding="gzip")
    with pytest.raises(httpx2.DecodingError):
        await client.get(server.url)


def certificate_for(name: str, directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


async def test_the_certificate_is_that_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = certificate_for("tools.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    client_module._ssl_context.cache_clear()

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with contextlib.ExitStack() as stack:
        stack.callback(client_module._ssl_context.cache_clear)
        async with http_server(context=context) as server, open_client(LOOPBACK, resolve=here) as client:
            server.answers["/"] = reply(200, b"sealed")
            assert (await client.get(f"https://tools.example:{server.port}/")).text == "sealed"
            with pytest.raises(httpx2.ConnectError, match=r"(?i)certificate"):
                await client.get(f"https://other.example:{server.port}/")


def test_the_environment_says_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PRIVATE_NETWORKS", "HTTP", "MAX_BYTES", "CONNECT_S", "TOTAL_S"):
        monkeypatch.delenv(f"AVB_EGRESS_{name}", raising=False)
    assert EgressConfig.from_environ() == EgressConfig()
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.1/32,fd00::/8")
    monkeypatch.setenv("AVB_EGRESS_TOTAL_S", "7.5")
    read = EgressConfig.from_environ()
    assert read.private_networks == (ip_network("127.0.0.1/32"), ip_network("fd00::/8"))
    assert read.total_s == 7.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("PRIVATE_NETWORKS", "here"), ("PRIVATE_NETWORKS", "10.0.0.1/8"), ("MAX_BYTES", "10"), ("TOTAL_S", "0")],
)
def test_a_wrong_value_stops_the_start_and_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AVB_EGRESS_{name}", value)
    with pytest.raises(EgressInvalid, match=f"AVB_EGRESS_{name}"):
        EgressConfig.from_environ()
