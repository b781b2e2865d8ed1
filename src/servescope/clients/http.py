"""HTTP for all clients, and the texts of its errors.

What applies to all servers (timeouts, certificates, headers) belongs here.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from servescope.clients.access import PUBLIC, Access, parse_address, redacted
from servescope.errors import ServescopeError

CONNECT_S = 10.0


class Unavailable(ServescopeError):
    """The server cannot be reached or does not let us in: any other request to it would end the same way."""


def open_client(timeout_s: float, *, verify: ssl.SSLContext | bool = True, trust_env: bool = True) -> httpx.Client:
    """The HTTP client that all requests go through.

    A redirect is not followed: it would send credentials to another server. `trust_env` is False where proxies from
    the environment must not read the requests.
    """
    try:
        return httpx.Client(timeout=timeout_s, verify=verify, follow_redirects=False, trust_env=trust_env)
    except (ImportError, ValueError, httpx.InvalidURL):  # their texts may repeat the proxy's password
        raise ServescopeError("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: not the address of an HTTP proxy") from None


def certificates(ca_file: Path | None, *, verify: bool = True) -> ssl.SSLContext | bool:
    """The CA certificates to verify a server with: the file's, or the system's; False for no verification.

    Raises:
        ServescopeError: the certificates cannot be read.
    """
    if not verify:
        return False
    try:
        if ca_file is not None:
            return ssl.create_default_context(cafile=str(ca_file))
        return httpx.create_ssl_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR
    except (OSError, ssl.SSLError) as error:
        named = ca_file or "SSL_CERT_FILE or SSL_CERT_DIR"
        raise ServescopeError(f"{named}: cannot read the certificates ({error})") from error


class HttpApi:
    """One HTTP server; `program` names the expected program in error messages.

    `url` is the address as it may be shown. A request ends after `timeout_s`, and at `deadline` (of the monotonic
    clock) where one is set, however slowly the answer drips. No proxy of the environment is asked for this machine.
    """

    def __init__(
        self, url: str, program: str, *, timeout_s: float = 30.0, trust_env: bool = True, access: Access = PUBLIC
    ) -> None:
        address = parse_address(url, program)
        self.url = address.url
        self.program = program
        self.deadline: float | None = None
        self._timeout_s = timeout_s
        self._access = access
        self._secrets: list[tuple[str, str]] = []
        self._authorization = {"Authorization": address.authorization} if address.authorization else {}
        self._client = open_client(
            timeout_s, verify=certificates(access.ca_file), trust_env=trust_env and not address.loopback
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> HttpApi:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def get(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        """GET with the parameters in the URL.

        Raises:
            ServescopeError: the server is unreachable.
        """
        return self._send("GET", path, params=parameters)

    def post_form(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        """POST with the parameters in the body, where they may be longer than a URL.

        Raises:
            ServescopeError: the server is unreachable.
        """
        return self._send("POST", path, data=parameters)

    def post_json(self, path: str, document: Any) -> httpx.Response:
        """POST a JSON document.

        Raises:
            ServescopeError: the server is unreachable.
        """
        return self._send("POST", path, json=document)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        shared = self._access.request_headers()
        self._secrets = [*shared.items(), *self._authorization.items()]
        headers = {**shared, **self._authorization}
        until = time.monotonic() + self._timeout_s
        if self.deadline is not None:
            until = min(until, self.deadline)
        left = until - time.monotonic()
        if left <= 0:
            raise ServescopeError(f"{self.url}: {self.program} is not asked: the time for all queries is used up")
        timeout = httpx.Timeout(left, connect=min(left, CONNECT_S))
        try:
            with self._client.stream(
                method, f"{self.url}{path}", headers=headers, timeout=timeout, **content
            ) as response:
                answer = _read(response, until)
        # The last three are about the URL: its port or its host cannot be.
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OverflowError) as error:
            kind = Unavailable if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) else ServescopeError
            reason = self.redacted(str(error)) or type(error).__name__
            raise kind(f"{self.url}: {self.program} is unreachable ({reason})") from None
        if answer.status_code in (401, 403):
            raise Unavailable(
                f"{self.url}: {self.program} denies access ({answer.status_code}{self._reason(answer)}); see "
                "--bearer-token-file, --basic-auth-file, --header and --tenant"
            )
        if answer.is_redirect:
            raise ServescopeError(
                f"{self.url}: redirects ({answer.status_code}) to {_origin(answer.headers['Location'])} and is not "
                "followed, since that could send credentials elsewhere; give the address that it leads to"
            )
        return answer

    def refused(self, reason: str, status: int | None = None) -> ServescopeError:
        """The error of a query that the server rejects."""
        code = "" if status is None else f" ({status})"
        return ServescopeError(f"{self.url}: {self.program} rejected the query{code}: {self.redacted(reason)}")

    def unexpected(self, detail: object) -> ServescopeError:
        """The error of a response from another program."""
        return ServescopeError(f"{self.url}: not a response of {self.program} ({self.redacted(str(detail))})")

    def redacted(self, text: str) -> str:
        """What the server said, without the credentials of the latest request, which it may repeat."""
        return redacted(text, self._secrets)

    def _reason(self, answer: httpx.Response) -> str:
        """The reason that a server gives, if it is a line of text and not a page."""
        text = " ".join(self.redacted(answer.text).split())
        return f": {text[:200]}" if text and not text.startswith("<") else ""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A context for reading a response's fields: another program's has different ones.

        Raises:
            ServescopeError: a field is missing or of another type.
        """
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self.unexpected(f"{type(error).__name__}: {error}") from error


def _read(response: httpx.Response, until: float) -> httpx.Response:
    """The whole answer, decoded. The client's own timeout holds for each read: an answer that drips would never end."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the answer takes too long")
    kept = {name: response.headers[name] for name in ("Content-Type", "Location") if name in response.headers}
    return httpx.Response(response.status_code, headers=kept, content=bytes(body))


def _origin(location: str) -> str:
    """The server that a redirect leads to; its path and query may hold the state of somebody's login."""
    try:
        url = httpx.URL(location)
    except httpx.InvalidURL:
        return "no address"
    return f"{url.scheme}://{url.netloc.decode()}" if url.host else "another path"


def json_or_refused(api: HttpApi, response: httpx.Response) -> Any:
    """The JSON of a successful response. An error comes with its reason as plain text.

    Raises:
        ServescopeError: the server rejected the query, or the response is not JSON.
    """
    try:
        if response.is_success:
            return response.json()
    except ValueError:
        pass
    raise api.refused(" ".join(api.redacted(response.text).split())[:200], response.status_code)
