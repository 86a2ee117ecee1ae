"""Fetching, from a server on this machine: refused where an address leads inwards, bounded in time and size, told in words."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import httpcore
import pytest

from ingest.fetch import Limits, fetch
from kb.notes import PasskbError

if TYPE_CHECKING:
    from tests.ingest.conftest import Answer, Site

PUBLIC, OTHER = "93.184.216.34", "2606:2800:220:1::1"
HTML = "<html><head><title>On otters</title></head><body><h1>On otters</h1><p>Otters keep a stone.</p>{}</body></html>"


class Internet(httpcore.SyncBackend):
    """Every public IP address is the site; others are themselves. Remembers which were connected to."""

    def __init__(self, *closed: str) -> None:
        self.reached: list[str] = []
        self.closed = closed

    def connect_tcp(self, host: str, port: int, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        self.reached.append(host)
        if host in self.closed:
            raise httpcore.ConnectError("refused")
        return super().connect_tcp("127.0.0.1" if host in (PUBLIC, OTHER) else host, port, *arguments, **named)


def names(**known: str) -> Callable[[str, int], Sequence[str]]:
    return lambda host, port: known[host.removesuffix(".test")].split()


def refusal(address: str, **how: Any) -> str:
    with pytest.raises(PasskbError) as caught:
        fetch(address, **how)
    return str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.1", "127.1",
     "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "[fd00::1]",
     "[64:ff9b:1::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2001:0:1::]", "127。0。0。1"],
)  # fmt: skip
def test_addresses_of_this_machine_and_of_private_networks_are_refused(site: Site, host: str) -> None:
    network = Internet()
    message = refusal(f"http://{host}:{site.port}/", network=network)
    assert "of a private network" in message and "allow_private_addresses" in message
    assert not network.reached and not site.requests


def test_what_is_public_is_not_refused(site: Site) -> None:
    site.put("/", HTML.format(""))
    network = Internet()
    for host in (PUBLIC, f"[{OTHER}]"):
        assert fetch(f"http://{host}:{site.port}", network=network).requested == f"http://{host}:{site.port}/"
    assert network.reached == [PUBLIC, OTHER]
    translated = Internet("64:ff9b::5db8:d822")
    assert "no connection" in refusal("http://[64:ff9b::5db8:d822]/", network=translated)


def test_a_name_is_refused_for_any_inward_address_and_asked_for_once(site: Site) -> None:
    network = Internet()
    known = names(inward="127.0.0.1", mixed=f"{PUBLIC} 10.0.0.1")
    for host, ip in (("inward.test", "127.0.0.1"), ("mixed.test", "10.0.0.1")):
        assert f"{host} is {ip}, an address of" in refusal(f"http://{host}:{site.port}/", resolve=known, network=network)
    assert not network.reached and not site.requests

    answers = [[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]]
    site.put("/", HTML.format(""))
    page = fetch(f"http://turncoat.test:{site.port}/", resolve=lambda *_: answers.pop(0), network=network)
    assert page.data and network.reached == [PUBLIC] and len(answers) == 2
    assert site.requests == [(f"turncoat.test:{site.port}", "/")]


def test_the_next_address_of_a_name_is_tried(site: Site) -> None:
    site.put("/", HTML.format(""))
    network = Internet(OTHER)
    assert fetch(f"http://two.test:{site.port}/", resolve=names(two=f"{OTHER} {PUBLIC}"), network=network).data
    assert network.reached == [OTHER, PUBLIC]


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:{port}/secret", "http://inward.test:{port}/secret", "http://[::1]/secret"]
)
def test_a_redirect_inwards_is_refused(site: Site, target: str) -> None:
    site.put("/secret", HTML.format(""))
    site.put("/", "", status=302, Location=target.format(port=site.port))
    network = Internet()
    message = refusal(f"http://out.test:{site.port}/", resolve=names(out=PUBLIC, inward="127.0.0.1"), network=network)
    assert message.startswith(f"http://out.test:{site.port}/: redirects to http://") and "of a private network" in message
    assert network.reached == [PUBLIC] and [path for _, path in site.requests] == ["/"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/loop", "redirects in a loop"), ("file:///etc/passwd", "file addresses are not supported"),
     ("ftp://x/y", "ftp addresses are not supported"), ("http://u:secret@x/", "user name or password"),
     ("http://[", "not a web address"), ("http://h:x/", "Invalid URL in location header")],
)  # fmt: skip
def test_redirects_that_lead_nowhere(site: Site, target: str, expected: str) -> None:
    message = refusal(site.put("/loop", "", status=302, Location=target), allow_private=True)
    assert expected in message and "secret" not in message and len(site.requests) <= 6


def test_a_proxy_of_the_environment_is_no_way_around(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(site.put("/", HTML.format("")), allow_private=True).data


def test_tls_is_asked_for_by_name(site: Site) -> None:
    asked_for: list[str | None] = []

    class Watched(httpcore.MockStream):
        def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None) -> Watched:
            assert ssl_context.check_hostname and ssl_context.verify_mode.name == "CERT_REQUIRED"
            asked_for.append(server_hostname)
            return self

    class Network(httpcore.NetworkBackend):
        def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.NetworkStream:
            assert (host, port) == (PUBLIC, 443)
            return Watched([b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nWords"])

    assert fetch("https://out.test/", resolve=names(out=PUBLIC), network=Network()).data == b"Words"
    assert asked_for == ["out.test"]
    message = refusal(f"https://127.0.0.1:{site.port}/", allow_private=True)
    assert "no secure connection" in message and "whether it uses http" in message


def endless(wait: float = 0.0, start: bytes = b"<html>", head: bool = True) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers without a length, on and on, until the other side hangs up; half a minute at most."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if head:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html")
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        handler.wfile.write(start)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            handler.wfile.write(b"a" if wait else b"a" * 65_536)
            time.sleep(wait)

    return answer


def test_what_is_too_large_is_stopped_at_the_limit(site: Site) -> None:
    limits = Limits(size=2**20)
    assert "larger than 1 MB" in refusal(site.answer("/endless", endless()), allow_private=True, limits=limits)
    assert "larger than 1 MB" in refusal(site.put("/long", b"a" * (2**20 + 1)), allow_private=True, limits=limits)
    bomb = gzip.compress(b"a" * 2**24)
    packed = site.put("/bomb", bomb, Content_Encoding="gzip")
    assert len(bomb) < 2**15 and "larger than 1 MB" in refusal(packed, allow_private=True, limits=limits)


@pytest.mark.parametrize("head", [True, False])
def test_a_server_that_trickles_is_left(site: Site, head: bool) -> None:
    started = time.monotonic()
    message = refusal(site.answer("/slow", endless(0.02, head=head)), allow_private=True, limits=Limits(seconds=0.2))
    assert "no complete answer within 0.2 seconds" in message and time.monotonic() - started < 20  # it would go on for 30


def test_a_name_that_takes_too_long_is_left() -> None:
    def slow(host: str, port: int) -> list[str]:
        time.sleep(1)
        return [PUBLIC]

    assert "no complete answer within 0.1 seconds" in refusal("http://slow.test/", resolve=slow, limits=Limits(seconds=0.1))


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 900\r\n\r\n<html>")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [((404, {}, b"no"), "does not exist"), ((403, {}, b"no"), "from your browser"),
     ((500, {}, b"no"), "try again later (HTTP 500)"), ((418, {}, b"no"), "check the address (HTTP 418)"),
     ((200, {"Content-Type": "image/png"}, b"\x89PNG"), "is image/png: passkb reads"),
     ((200, {"Content-Type": "application/zip"}, b"PK" * 2000), "is application/zip: passkb reads"),
     ((200, {}, b"\x00\x01"), "of no declared type"), ((200, {"Content-Type": "text/html"}, b""), "page is empty"),
     ((200, {"Content-Type": "application/pdf"}, b"<html>Sign in</html>"), "declared as a PDF but is none"),
     ((200, {"Content-Type": "text/html", "Content-Encoding": "br"}, b"x"), "unsupported compression 'br'"),
     ((200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, b"x" * 50), "is damaged"),
     ((200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, gzip.compress(b"x" * 50)[:-9]), "is incomplete"),
     (broken, "ended the connection"), (lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n\r\n"), "does not speak HTTP")],
)  # fmt: skip
def test_what_a_server_may_answer_instead(site: Site, answer: Answer, expected: str) -> None:
    site.pages["/"] = answer
    message = refusal(site.root + "/", allow_private=True)
    assert message.startswith(site.root + "/: ") and expected in message


def test_a_compressed_page_is_unpacked(site: Site) -> None:
    body = HTML.format("<p>More.</p>" * 20_000).encode()
    for packed in (
        gzip.compress(body),
        gzip.compress(body[:70_000]) + gzip.compress(body[70_000:]),
        gzip.compress(body) + b"\0" * 9,
    ):
        assert fetch(site.put("/", packed, Content_Encoding="gzip"), allow_private=True).data == body
    bombs = gzip.compress(b"a" * 2**19) * 8
    assert "larger than 1 MB" in refusal(
        site.put("/", bombs, Content_Encoding="gzip"), allow_private=True, limits=Limits(size=2**20)
    )


def test_no_host_and_no_server_are_told(site: Site) -> None:
    def no_addresses(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    assert "host 'nobody.test' not found" in refusal("http://nobody.test/", resolve=no_addresses)
    assert "not found" in refusal("http://nobody.test/", resolve=lambda *_: [])
    assert "no connection" in refusal("http://127.0.0.1:9/", allow_private=True)
    for odd in (
        "http:///x",
        "http://h:0/",
        "http://h:99999/",
        "http://h:x/",
        "http://0177.0.0.1/",
        "http://127.0.0.%31/",
        "http://[fe80::1%25lo]/",
        "http://\x00/",
        "http://" + "a" * 70_000,
    ):
        assert "check its spelling" in refusal(odd), odd
    assert "not found" in refusal("http://" + "a" * 70 + "..test/")
