"""Fetches web pages in bounded time and size, and by default not from private networks.

`_CheckedNetwork` resolves a name, checks its addresses and connects to one of exactly these, so that no redirect, proxy or
changed DNS answer bypasses the check.
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
_SNIFF_SIZE, _PIECE_SIZE = 1024, 65_536  # bytes
_GZIP_FIRST_BYTE = 0x1F
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)
_HOST = re.compile(rb"[\w.:-]+")
_STATUS_REASONS = {
    401: "the page requires a login: save it from your browser and ingest the file",
    403: "the server refuses access by programs: save the page from your browser and ingest the file",
    404: "the page does not exist: check the spelling of the address",
    410: "the page was removed: look for another copy",
    429: "the server limits requests: try again later",
}
_PRIVATE_ADDRESS = (
    "an address of this machine or of a private network: to allow it, set allow_private_addresses = true in config.toml "
    "(or PASSKB_ALLOW_PRIVATE_ADDRESSES=1)"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds`: in total, including redirects. `size`: in bytes, uncompressed."""

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
    allow_private: bool = False,
    limits: Limits = _LIMITS,
    resolve: Resolve = resolve_host,
    network: httpcore.NetworkBackend | None = None,
) -> FetchedPage:
    """The page, text or PDF at an http(s) address. `private` allows addresses of this machine and of private networks;
    `resolve` returns a host's IP addresses, `network` connects to one.

    Raises PasskbError that begins with the address and states cause and remedy.
    """
    visited: list[httpx.URL] = []
    network_access = _CheckedNetwork(_Deadline(limits.seconds), allow_private, resolve, network or httpcore.SyncBackend())
    try:
        visited.append(_parse_url(address))
        with httpx.Client(transport=_Transport(network_access), trust_env=False, timeout=None) as client:
            return _follow_redirects(client, visited, limits)
    except PasskbError as error:
        raise PasskbError(_prefix(address, visited) + str(error)) from error
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpx.HTTPError) as error:
        raise PasskbError(_prefix(address, visited) + _reason(error, limits)) from error


def _prefix(address: str, visited: Sequence[httpx.URL]) -> str:
    target = f"redirects to {without_password(str(visited[-1]))}: " if len(visited) > 1 else ""
    return f"{without_password(address)}: {target}"


def _parse_url(text: str) -> httpx.URL:
    """An address without its fragment. Raises PasskbError when it is invalid or must not be fetched."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise PasskbError(f"not a web address ({error}): check its spelling") from error
    if url.scheme not in ("http", "https"):
        raise PasskbError(f"{url.scheme or 'such'} addresses are not supported: use http or https")
    if url.userinfo:
        raise PasskbError("the address contains a user name or password, which the note would store: remove them")
    if not _HOST.fullmatch(url.raw_host) or (url.port is not None and not 0 < url.port < 2**16):
        raise PasskbError("not a web address (its host or port is missing or invalid): check its spelling")
    return url.copy_with(raw_path=url.raw_path, fragment=None)


def _follow_redirects(client: httpx.Client, visited: list[httpx.URL], limits: Limits) -> FetchedPage:
    """Fetches the address in `visited` and follows redirects, each checked like the first; appends them to `visited`."""
    while True:
        with client.stream("GET", visited[-1], headers=_HEADERS, follow_redirects=False) as response:
            next_request = response.next_request
            if next_request is None:
                return _read_page(response, visited, limits)
        if len(visited) > limits.redirects:
            raise PasskbError(
                f"redirects in a loop or more than {limits.redirects} times: open it in a browser and ingest the final address"
            )
        visited.append(next_request.url)  # before the check, so that the error names it
        visited[-1] = _parse_url(str(next_request.url))


def _read_page(response: httpx.Response, visited: Sequence[httpx.URL], limits: Limits) -> FetchedPage:
    status = response.status_code
    if status != 200:
        default = "the server failed: try again later" if status >= 500 else "the server refuses the request: check the address"
        raise PasskbError(f"{_STATUS_REASONS.get(status, default)} (HTTP {status})")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.size:
        raise _too_large(limits)
    content_type, data = _read_body(response, limits)
    suffix = ".pdf" if content_type in _PDF else _SUFFIXES[content_type]
    if suffix == ".txt" and visited[-1].path.lower().endswith((".md", ".markdown")):
        suffix = ".md"
    charset = response.charset_encoding or ""
    return FetchedPage(str(visited[0]), str(visited[-1]), content_type, charset, suffix, data)


def _read_body(response: httpx.Response, limits: Limits) -> tuple[str, bytes]:
    """The content type and the bytes; stops reading at the first unacceptable type or size."""
    declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    content_type, data = "", bytearray()
    for part in _decompress(response):
        data += part
        if len(data) > limits.size:
            raise _too_large(limits)
        if not content_type and len(data) >= _SNIFF_SIZE:
            content_type = _content_type(declared, bytes(data[:_SNIFF_SIZE]))
    if not data.strip():
        raise PasskbError("the page is empty: open it in a browser and save it there if it shows text")
    return content_type or _content_type(declared, bytes(data)), bytes(data)


def _too_large(limits: Limits) -> PasskbError:
    return PasskbError(f"larger than {limits.size / 2**20:g} MB: save the part that you need and ingest the file")


def _content_type(declared: str, start: bytes) -> str:
    """The content type by the header, or PDF by the first bytes. Raises PasskbError for unsupported types."""
    if start.startswith(b"%PDF-") or (declared in _PDF and b"%PDF-" in start):
        return _PDF[0]
    if declared in _PDF:
        raise PasskbError("declared as a PDF but is none: open it in a browser and save the PDF there")
    if not declared and _HTML.match(start):
        return "text/html"
    if declared not in _SUFFIXES:
        resolved = declared.encode("ascii", "replace").decode()[:60] or "of no declared type"
        raise PasskbError(f"the content is {resolved}: passkb reads HTML, text, Markdown and PDF")
    return declared


def _decompress(response: httpx.Response) -> Iterator[bytes]:
    """The uncompressed body in pieces of bounded size, whatever the compression ratio."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        yield from response.iter_raw(_PIECE_SIZE)
        return
    if encoding not in ("gzip", "x-gzip"):
        raise PasskbError(f"the server uses the unsupported compression {encoding[:20]!r}: save the page from your browser")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for raw in response.iter_raw(_PIECE_SIZE):
            while raw:
                if decompressor.eof:  # another compressed stream may follow; any other trailing bytes are ignored
                    if raw[0] != _GZIP_FIRST_BYTE:
                        return
                    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
                yield decompressor.decompress(raw, _PIECE_SIZE)
                raw = decompressor.unconsumed_tail or decompressor.unused_data
        yield decompressor.flush()
    except zlib.error as error:
        raise PasskbError(f"the download is damaged ({error}): try again") from error
    if not decompressor.eof:
        raise PasskbError("the download is incomplete: try again")


def _reason(error: Exception, limits: Limits) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return f"no complete answer within {limits.seconds:g} seconds: try again later, or save the page and ingest the file"
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate cannot be trusted ({cause.verify_message}): check the address and this machine's clock"
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection ({cause.reason or cause}): check the address, and whether it uses http"
    if isinstance(error, httpcore.ConnectError):
        return f"no connection ({error}): check the address, and that this machine is online"
    return f"the server ended the connection or does not speak HTTP ({error}): try again, or save the page and ingest the file"


class _Deadline:
    """The time limit of a fetch, which starts when it is created."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Remaining seconds, above 0. Raises httpcore.ReadTimeout when there are none."""
        remaining_s = self._end - time.monotonic()
        if remaining_s <= 0:
            raise httpcore.ReadTimeout
        return remaining_s


class _TimedStream(httpcore.NetworkStream):
    """A connection in which each operation gets the remaining time, so that a slow server cannot exceed the limit."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.remaining_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.remaining_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining_s()), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects only to checked IP addresses. TLS and the Host header keep the host name."""

    def __init__(self, deadline: _Deadline, allow_private: bool, resolve: Resolve, network: httpcore.NetworkBackend) -> None:
        self._deadline, self._allow_private, self._resolve, self._network = deadline, allow_private, resolve, network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises PasskbError when the host has no address or a forbidden one, and httpcore's errors when none answers."""
        addresses = self._addresses(host, port)
        private_ips = [] if self._allow_private else [ip for ip in addresses if _is_private(ip)]
        if private_ips:
            resolved = "" if str(private_ips[0]) == host else f"{private_ips[0]}, "
            raise PasskbError(f"{host} is {resolved}{_PRIVATE_ADDRESS}")
        for remaining_s, ip in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                share = self._deadline.remaining_s() / remaining_s
                return _TimedStream(self._network.connect_tcp(str(ip), port, share, None, socket_options), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if remaining_s == 1:
                    raise
        raise AssertionError("a host has an address")

    def _addresses(self, host: str, port: int) -> list[_Ip]:
        if (ip := _parse_ip(host)) is not None:
            return [ip]
        answers: queue.SimpleQueue[list[_Ip] | Exception] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put([ip_address(text) for text in self._resolve(host, port)])
            except Exception as error:  # raised by the waiting thread
                answers.put(error)

        threading.Thread(target=look_up, daemon=True).start()  # the system's resolver takes no time limit
        try:
            addresses = answers.get(timeout=self._deadline.remaining_s())
        except queue.Empty:
            raise httpcore.ConnectTimeout from None
        if isinstance(addresses, Exception) or not addresses:
            cause = addresses if isinstance(addresses, Exception) else None
            raise PasskbError(f"host {host!r} not found: check the spelling, and that this machine is online") from cause
        return addresses


def _parse_ip(host: str) -> _Ip | None:
    """The IP address that a host name spells, including forms such as `127.1` and `0x7f000001`; None for any other name."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _is_private(ip: _Ip) -> bool:
    """Whether an address is outside the public internet. An IPv4 address embedded in an IPv6 address is checked itself."""
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _TRANSLATED else None)
        if inner is not None:
            return _is_private(inner)
        if ip not in _UNICAST:
            return True
    return not ip.is_global or ip.is_multicast or ip.is_reserved


class _Transport(httpx.BaseTransport):
    """httpx over httpcore with a custom network, which httpx's own transport does not accept."""

    def __init__(self, network_access: _CheckedNetwork) -> None:
        self._pool = httpcore.ConnectionPool(network_backend=network_access)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        core_request = httpcore.Request(request.method, target, headers=request.headers.raw, extensions=request.extensions)
        response = self._pool.handle_request(core_request)
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._answer = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()
