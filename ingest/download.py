"""Text over HTTP, from where the operator said and from nowhere that a redirect leads inside.

Every hop's host is resolved, all its addresses are checked, and the connection goes to the
address that was checked, so that a name can't point elsewhere between the check and the request.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from metaflowbot.errors import SourceError

MAX_BYTES = 20_000_000
_SECONDS = 60.0
_SECONDS_OF_SILENCE = 10.0
_MAX_REDIRECTS = 5


class NoTextError(SourceError):
    """What is there is not text to read: nothing (404, 410), a web page, not UTF-8, too large.

    `reason` goes on from the name of what was asked for, e.g. 'is not text: it is not UTF-8'.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Gate:
    """Which URLs may be fetched.

    `schemes` are URL schemes; `kinds` are kinds of addresses as `kind_of` names them.
    """

    schemes: frozenset[str]
    kinds: frozenset[str]

    def admit(self, url: str) -> str:
        """The address to connect to for `url`; raises SourceError when it is refused."""
        parts = _parts(url)
        if parts.scheme not in self.schemes or not parts.hostname:
            allowed = " or ".join(sorted(self.schemes))
            raise SourceError(f"{_named(url)} is refused: it is not an {allowed} URL")
        addresses = _addresses(parts.hostname)
        for kind in map(kind_of, addresses):
            if kind not in self.kinds:
                raise SourceError(f"{_named(url)} is refused: it leads to a {kind} address")
        return addresses[0]


# For addresses that other people than the operator named.
PUBLIC = Gate(frozenset({"http", "https"}), frozenset({"public"}))


def gate_for(location: str) -> Gate:
    """Public addresses over https, and besides only what the location itself is.

    Raises SourceError when it is no URL or its host can't be found.
    """
    parts = _parts(location)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(f"{_named(location)} is not an http or https URL")
    kinds = map(kind_of, _addresses(parts.hostname))
    return Gate(frozenset({"https", parts.scheme}), frozenset({"public", *kinds}))


def kind_of(address: str) -> str:
    """'public', 'loopback', 'link-local' or 'private' (all that is not for the open internet)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    return "public" if ip.is_global and not ip.is_multicast else "private"


def fetch_text(url: str, gate: Gate) -> str:
    """The text at `url`, at most MAX_BYTES of UTF-8, within a minute.

    Raises NoTextError when something else is there, SourceError when nothing is known of what is
    there: it can't be reached, or `gate` refuses it.
    """
    deadline = time.monotonic() + _SECONDS
    for _ in range(_MAX_REDIRECTS + 1):
        answer = _get(url, gate.admit(url), deadline)
        if isinstance(answer, bytes):
            return text_of(answer, _named(url))
        url = _joined(url, answer)
    raise SourceError(f"{_named(url)}: more than {_MAX_REDIRECTS} redirects in a row")


def settled(url: str, gate: Gate) -> str:
    """Where the redirects of `url` end, whatever is there; `gate` admits each of them.

    Raises SourceError where one can't be reached or is refused.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        with _asked(url, gate.admit(url)) as response:
            if not response.has_redirect_location:
                return url
            url = _joined(url, response.headers["Location"])
    raise SourceError(f"{_named(url)}: more than {_MAX_REDIRECTS} redirects in a row")


def text_of(body: bytes, name: str) -> str:
    """Bytes -> text with plain line ends; raises NoTextError with `name` when it is none."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NoTextError(name, "is not text: it is not UTF-8") from None
    if "\0" in text:
        raise NoTextError(name, "is not text: it holds zero bytes")
    return text.replace("\r\n", "\n")


def _get(url: str, address: str, deadline: float) -> bytes | str:
    """The body, or where the answer redirects to."""
    with _asked(url, address) as response:
        return _answer(response, url, deadline)


@contextmanager
def _asked(url: str, address: str) -> Iterator[httpx2.Response]:
    """What the server at `address` answers for `url`, of which the body is not read yet."""
    try:
        asked = httpx2.URL(url)
        # Without a proxy of the environment: it would resolve the name itself, unchecked.
        with (
            httpx2.Client(timeout=_SECONDS_OF_SILENCE, trust_env=False) as client,
            client.stream(
                "GET",
                asked.copy_with(host=address),
                headers={"Host": asked.netloc.decode("ascii"), "Accept-Encoding": "identity"},
                extensions={"sni_hostname": asked.raw_host.decode("ascii")},
            ) as response,
        ):
            yield response
    except httpx2.TimeoutException:
        seconds = f"{_SECONDS_OF_SILENCE:g} s"
        raise SourceError(f"{_named(url)} did not answer within {seconds}") from None
    except httpx2.InvalidURL:
        raise SourceError(f"{_named(url)} is not a URL") from None
    except httpx2.HTTPError as error:
        raise SourceError(f"{_named(url)} can't be reached: {error}") from None


def _answer(response: httpx2.Response, url: str, deadline: float) -> bytes | str:
    if response.has_redirect_location:
        return response.headers["Location"]
    if response.status_code != 200:
        reason = f"answered {response.status_code}: {response.reason_phrase or 'no reason given'}"
        if response.status_code in (404, 410):
            raise NoTextError(_named(url), reason)
        raise SourceError(f"{_named(url)} {reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise NoTextError(_named(url), "is a web page, not Markdown or text")
    return _body(response.iter_bytes(), url, deadline)


def _body(chunks: Iterable[bytes], url: str, deadline: float) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BYTES:
            raise NoTextError(_named(url), f"is larger than {MAX_BYTES // 1_000_000} MB")
        if time.monotonic() > deadline:
            raise SourceError(f"{_named(url)} was not read to its end within {_SECONDS:g} s")
    return bytes(body)


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise SourceError(f"{url} is not a URL") from None


def _joined(url: str, target: str) -> str:
    """Where a redirect leads."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise SourceError(f"{_named(url)} redirects to what is not a URL") from None


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SourceError(f"{host} can't be found: check its name and the network") from None
    return [str(entry[4][0]) for entry in found]


def _named(url: str) -> str:
    """A URL for a message: without what may be secret in it, a password or a query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else url
