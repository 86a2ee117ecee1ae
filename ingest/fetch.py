"""What stands at a web address, fetched with care: in bounded time and size, and not from inside a private network.

A name is resolved, its addresses are checked, and one of exactly those is connected to, all in `_Door`: neither a redirect, nor
a proxy, nor a name that resolves to something else the second time, leads around it. Knows nothing about homes, notes and
settings; httpx and httpcore stay in here.
"""

from __future__ import annotations

import queue
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpcore
import httpx

from ingest.fetched_pages import FetchedPage, without_password
from kb.notes import PasskbError

Resolve = Callable[[str, int], Sequence[str]]
_Ip = IPv4Address | IPv6Address

_UNICAST, _TRANSLATED = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")
_PDF = ("application/pdf", "application/x-pdf")
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
}
_HEADERS = {
    "User-Agent": "passkb",
    "Accept": "text/html,application/xhtml+xml,application/pdf,text/markdown,text/plain;q=0.9",
    "Accept-Encoding": "gzip",
}
_SNIFFED, _STEP = 1024, 65_536  # bytes
_GZIP = 0x1F  # the first byte of what is compressed so
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)
_HOST = re.compile(rb"[\w.:-]+")
_STATUS = {
    401: "may not be read without signing in: save it from your browser and ingest the file",
    403: "may not be read by programs: save it from your browser and ingest the file",
    404: "there is nothing at this address: check its spelling",
    410: "it has been taken down: look for another copy",
    429: "its server asks for patience: try again later",
}
_INWARD = (
    "an address of this machine or of a private network: if it is meant, set allow_private_addresses = true in config.toml "
    "(or PASSKB_ALLOW_PRIVATE_ADDRESSES=1)"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` in all, redirects included; `size` in bytes, without compression."""

    seconds: float = 30.0
    size: int = 20 * 1024 * 1024
    redirects: int = 5


_LIMITS = Limits()


def resolve_host(host: str, port: int) -> list[str]:
    """The IP addresses of a host, in the system's order. Raises OSError or UnicodeError when it has none."""
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def fetch(
    address: str,
    *,
    private: bool = False,
    limits: Limits = _LIMITS,
    resolve: Resolve = resolve_host,
    network: httpcore.NetworkBackend | None = None,
) -> FetchedPage:
    """The page, text or PDF at an http(s) address. `private` allows addresses of this machine and of private networks;
    `resolve` names a host's IP addresses, `network` connects to one.

    Raises PasskbError that begins with the address and says what is wrong and what to do.
    """
    trail: list[httpx.URL] = []
    door = _Door(_Clock(limits.seconds), private, resolve, network or httpcore.SyncBackend())
    try:
        trail.append(_url(address))
        with httpx.Client(transport=_Transport(door), trust_env=False, timeout=None) as client:
            return _follow(client, trail, limits)
    except PasskbError as error:
        raise PasskbError(_where(address, trail) + str(error)) from error
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpx.HTTPError) as error:
        raise PasskbError(_where(address, trail) + _reason(error, limits)) from error


def _where(address: str, trail: Sequence[httpx.URL]) -> str:
    return f"{without_password(address)}: " + (f"leads to {without_password(str(trail[-1]))}: " if len(trail) > 1 else "")


def _url(text: str) -> httpx.URL:
    """An address without its fragment. Raises PasskbError when it is none, or not one to be fetched."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise PasskbError(f"not a web address ({error}): check its spelling") from error
    if url.scheme not in ("http", "https"):
        raise PasskbError(f"{url.scheme or 'such'} addresses are not read: only http and https")
    if url.userinfo:
        raise PasskbError("it holds a user name or a password, which would be kept with the note: leave them out")
    if not _HOST.fullmatch(url.raw_host) or (url.port is not None and not 0 < url.port < 2**16):
        raise PasskbError("not a web address (its host or port is missing or none): check its spelling")
    return url.copy_with(raw_path=url.raw_path, fragment=None)


def _follow(client: httpx.Client, trail: list[httpx.URL], limits: Limits) -> FetchedPage:
    """From the one address in `trail` along redirects, each checked as the first was; `trail` tells how far it came."""
    while True:
        with client.stream("GET", trail[-1], headers=_HEADERS, follow_redirects=False) as response:
            onward = response.next_request
            if onward is None:
                return _page(response, trail, limits)
        if len(trail) > limits.redirects:
            raise PasskbError(
                f"redirects in a loop, or more than {limits.redirects} times: open it in a browser and ingest where it ends"
            )
        trail.append(onward.url)  # also when it is refused: the error names it
        trail[-1] = _url(str(onward.url))


def _page(response: httpx.Response, trail: Sequence[httpx.URL], limits: Limits) -> FetchedPage:
    status = response.status_code
    if status != 200:
        other = "its server failed: try again later" if status >= 500 else "its server does not give it: check the address"
        raise PasskbError(f"{_STATUS.get(status, other)} (HTTP {status})")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.size:
        raise _too_large(limits)
    kind, data = _body(response, limits)
    suffix = ".pdf" if kind in _PDF else _SUFFIXES[kind]
    if suffix == ".txt" and trail[-1].path.lower().endswith((".md", ".markdown")):
        suffix = ".md"
    charset = response.charset_encoding or ""
    return FetchedPage(str(trail[0]), str(trail[-1]), kind, charset, suffix, data)


def _body(response: httpx.Response, limits: Limits) -> tuple[str, bytes]:
    """The content type and the bytes; stops reading as soon as one of them is not acceptable."""
    declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind, data = "", bytearray()
    for part in _unpacked(response):
        data += part
        if len(data) > limits.size:
            raise _too_large(limits)
        if not kind and len(data) >= _SNIFFED:
            kind = _kind(declared, bytes(data[:_SNIFFED]))
    if not data.strip():
        raise PasskbError("it is empty: open it in a browser, and save the page there if it shows one")
    return kind or _kind(declared, bytes(data)), bytes(data)


def _too_large(limits: Limits) -> PasskbError:
    return PasskbError(f"larger than {limits.size / 2**20:g} MB: save the part that matters and ingest the file")


def _kind(declared: str, start: bytes) -> str:
    """The content type by the header, but for what its first bytes show to be a PDF. Raises PasskbError for any other."""
    if start.startswith(b"%PDF-") or (declared in _PDF and b"%PDF-" in start):
        return _PDF[0]
    if declared in _PDF:
        raise PasskbError("said to be a PDF, and is none: open it in a browser and save the PDF there")
    if not declared and _HTML.match(start):
        return "text/html"
    if declared not in _SUFFIXES:
        named = declared.encode("ascii", "replace").decode()[:60] or "of no declared type"
        raise PasskbError(f"what is there is {named}: passkb reads HTML, text, Markdown and PDF")
    return declared


def _unpacked(response: httpx.Response) -> Iterator[bytes]:
    """The body in pieces without compression. A piece stays small whatever it was compressed to."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        yield from response.iter_raw(_STEP)
        return
    if encoding not in ("gzip", "x-gzip"):
        raise PasskbError(f"its server compresses it as {encoding[:20]!r}, unasked: save it from your browser")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for raw in response.iter_raw(_STEP):
            while raw:
                if unpacking.eof:  # another compressed stream may follow the first; what else follows is none of it
                    if raw[0] != _GZIP:
                        return
                    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
                yield unpacking.decompress(raw, _STEP)
                raw = unpacking.unconsumed_tail or unpacking.unused_data
        yield unpacking.flush()
    except zlib.error as error:
        raise PasskbError(f"it came damaged ({error}): try again") from error
    if not unpacking.eof:
        raise PasskbError("it came cut short: try again")


def _reason(error: Exception, limits: Limits) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return f"was not there within {limits.seconds:g} seconds: try again later, or save the page and ingest the file"
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate cannot be trusted ({cause.verify_message}): check the address, and this machine's clock"
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection ({cause.reason or cause}): check the address, and whether it is http"
    if isinstance(error, httpcore.ConnectError):
        return f"no connection ({error}): check the address, and that this machine is online"
    return f"its server broke off, or does not speak HTTP ({error}): try again, or save the page and ingest the file"


class _Clock:
    """Counts down from the start of a fetch."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, above 0. Raises httpcore.ReadTimeout when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


class _Timed(httpcore.NetworkStream):
    """A connection whose every step gets what time is left: a server that sends a byte now and then gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, clock: _Clock) -> None:
        self._stream, self._clock = stream, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, self._clock.left()), self._clock)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _Door(httpcore.NetworkBackend):
    """The only way out. TLS and the Host header keep the name; the connection goes to an address that was checked."""

    def __init__(self, clock: _Clock, private: bool, resolve: Resolve, network: httpcore.NetworkBackend) -> None:
        self._clock, self._private, self._resolve, self._network = clock, private, resolve, network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises PasskbError when the host has no address, or one that is refused; httpcore's errors when none answers."""
        found = self._addresses(host, port)
        inward = [] if self._private else [ip for ip in found if _is_private(ip)]
        if inward:
            named = "" if str(inward[0]) == host else f"{inward[0]}, "
            raise PasskbError(f"{host} is {named}{_INWARD}")
        for left, ip in zip(range(len(found), 0, -1), found, strict=True):
            try:
                share = self._clock.left() / left
                return _Timed(self._network.connect_tcp(str(ip), port, share, None, socket_options), self._clock)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise AssertionError("a host has an address")

    def _addresses(self, host: str, port: int) -> list[_Ip]:
        if (literal := _literal(host)) is not None:
            return [literal]
        answers: queue.SimpleQueue[list[_Ip] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put([ip_address(text) for text in self._resolve(host, port)])
            except Exception as error:  # told where it is waited for
                answers.put(error)

        threading.Thread(target=ask, daemon=True).start()  # the system's resolver takes no time limit
        try:
            found = answers.get(timeout=self._clock.left())
        except queue.Empty:
            raise httpcore.ConnectTimeout from None
        if isinstance(found, Exception) or not found:
            cause = found if isinstance(found, Exception) else None
            raise PasskbError(f"no host {host!r} is known: check the spelling, and that this machine is online") from cause
        return found


def _literal(host: str) -> _Ip | None:
    """A host that is an IP address, however it is written: `127.1` and `0x7f000001` are what the system takes them for."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _is_private(ip: _Ip) -> bool:
    """Whether an address is not one of the public internet; an IPv4 address within an IPv6 one counts as itself."""
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _TRANSLATED else None)
        if inner is not None:
            return _is_private(inner)
        if ip not in _UNICAST:
            return True
    return not ip.is_global or ip.is_multicast or ip.is_reserved


class _Transport(httpx.BaseTransport):
    """httpx over httpcore with the door as its only network: httpx's own transport does not take one."""

    def __init__(self, door: _Door) -> None:
        self._pool = httpcore.ConnectionPool(network_backend=door)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = httpcore.Request(request.method, target, headers=request.headers.raw, extensions=request.extensions)
        answer = self._pool.handle_request(sent)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()
