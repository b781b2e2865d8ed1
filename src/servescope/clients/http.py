"""HTTP for all clients, and the texts of its errors.

What applies to all servers (timeouts, certificates, headers) belongs here.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from servescope.errors import ServescopeError


def open_client(timeout_s: float, *, verify: ssl.SSLContext | bool = True, trust_env: bool = True) -> httpx.Client:
    """The HTTP client that all requests go through.

    A redirect is not followed: it would send credentials to another server. `trust_env` is False where proxies from
    the environment must not read the requests.
    """
    return httpx.Client(timeout=timeout_s, verify=verify, follow_redirects=False, trust_env=trust_env)


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
    """One HTTP server; `program` names the expected program in error messages."""

    def __init__(self, url: str, program: str, *, timeout_s: float = 30.0, trust_env: bool = True) -> None:
        self.url = url.rstrip("/")
        self.program = program
        self._client = open_client(timeout_s, trust_env=trust_env)

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
        try:
            return self._client.request(method, f"{self.url}{path}", **content)
        # The last three are about the URL: its port or its host cannot be.
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OverflowError) as error:
            raise ServescopeError(
                f"{self.url}: {self.program} is unreachable ({error or type(error).__name__})"
            ) from error

    def refused(self, reason: str, status: int | None = None) -> ServescopeError:
        """The error of a query that the server rejects."""
        code = "" if status is None else f" ({status})"
        return ServescopeError(f"{self.url}: {self.program} rejected the query{code}: {reason}")

    def unexpected(self, detail: object) -> ServescopeError:
        """The error of a response from another program."""
        return ServescopeError(f"{self.url}: not a response of {self.program} ({detail})")

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
    raise api.refused(" ".join(response.text.split())[:200], response.status_code)
