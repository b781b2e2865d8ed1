"""A client of Ray's REST API for the state of Serve and of the nodes, with token authentication."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from servescope.clients.access import HeaderSource
from servescope.clients.http import certificates, open_client
from servescope.errors import ServescopeError

# About ten times the answer of 1,000 deployments with 10,000 replicas; anything larger is not Serve's.
MOST_BYTES = 64 << 20
# Serve's applications, and the nodes with their labels: the most that Ray lists at once.
APPLICATIONS, NODES = "/api/serve/applications/", "/api/v0/nodes?limit=10000"


@dataclass(frozen=True, kw_only=True)
class RayApi:
    """Where Serve's REST API is and how to authenticate.

    `url` is the address of Ray's dashboard. The token is read for each fetch, so that it can be rotated: from
    `token_file`, or else from RAY_AUTH_TOKEN. `headers` are for a
    proxy in front of Ray. `verify` is False only if the user turned verification off.
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    verify: bool = True
    timeout_s: float = 10
    headers: tuple[HeaderSource, ...] = ()

    def __post_init__(self) -> None:
        try:
            parts = httpx.URL(self.url)
        except (httpx.InvalidURL, UnicodeError):
            raise ServescopeError("address: not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ServescopeError("address: not of the form http://host:8265")
        if parts.userinfo:
            raise ServescopeError("address: must not contain a user or password; put Ray's token into a file")

    def request_headers(self) -> dict[str, str]:
        """What each request carries, read now.

        Raises:
            ServescopeError: the token or a header cannot be read, or cannot be sent; never says what it holds.
        """
        headers = {header.name: header.value() for header in self.headers}
        token = self.token()
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers

    def token(self) -> str | None:
        """The bearer token; None if none is set.

        Raises:
            ServescopeError: the file cannot be read, or its contents cannot be sent; the text never quotes them.
        """
        text = os.environ.get("RAY_AUTH_TOKEN", "")
        if self.token_file is not None:
            try:
                text = self.token_file.read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise ServescopeError(
                    f"{self.token_file}: cannot read the token ({getattr(error, 'strerror', None) or 'not plain text'})"
                ) from None
        text = text.strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ServescopeError("the token contains invalid characters")
        return text or None


class FetchError(Exception):
    """A failed fetch: the reason in one word, as a label value, and a line for the log."""

    def __init__(self, reason: str, line: str) -> None:
        super().__init__(line)
        self.reason = reason


class Fetcher:
    """Fetches documents over one kept connection, to cost Ray as little as possible."""

    def __init__(self, source: RayApi) -> None:
        self._source = source
        self._url = source.url.rstrip("/")
        # No proxy from the environment: over plain HTTP it could read the token.
        self._client = open_client(
            source.timeout_s, verify=certificates(source.ca_file, verify=source.verify), trust_env=False
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def fetch(self, path: str = APPLICATIONS) -> bytes:
        """A document, unparsed.

        Raises:
            FetchError: it failed; the text names the server and the fix.
        """
        try:
            headers = self._source.request_headers()
        except ServescopeError as error:
            raise FetchError("configuration", str(error)) from None
        url = self._url + path
        try:
            return self._body(url, headers)
        except httpx.TimeoutException:
            raise FetchError("timeout", f"{url}: no response within {self._source.timeout_s:g} s") from None
        # The last two are about the URL: its host or its port cannot be.
        except (httpx.HTTPError, UnicodeError, OverflowError) as error:
            raise FetchError("unreachable", f"{url}: {error or type(error).__name__}") from None

    def nodes(self) -> bytes:
        """The nodes with their labels; empty on failure, since everything else works without them."""
        try:
            return self.fetch(NODES)
        except FetchError:
            return b""

    def _body(self, url: str, headers: dict[str, str]) -> bytes:
        deadline = time.monotonic() + self._source.timeout_s
        with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in (401, 403):
                raise FetchError(
                    "unauthorized",
                    f"{url}: {response.status_code}: Ray requires a token or rejected this one; see --token-file",
                )
            if response.status_code != 200:
                raise FetchError("http_status", f"{url}: HTTP status {response.status_code}")
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise FetchError("too_large", f"{url}: response larger than {MOST_BYTES >> 20} MiB")
                # The client's timeout applies to each read; a response that trickles in would never end.
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("slow")
            return bytes(body)
