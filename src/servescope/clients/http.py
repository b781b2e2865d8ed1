"""How every client asks a server over HTTP, and the wording of what goes wrong.

Whatever holds for all servers (time limits, certificates, what a request carries) belongs here.
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

    A redirect is not followed: it would carry a credential to somebody else. `trust_env` is False where no proxy that
    the environment names may read the requests.
    """
    return httpx.Client(timeout=timeout_s, verify=verify, follow_redirects=False, trust_env=trust_env)


def certificates(ca_file: Path | None, *, verify: bool = True) -> ssl.SSLContext | bool:
    """What a server's certificate is checked against: the file's, or else those of the machine; False for no check.

    Raises:
        ServescopeError: the certificates cannot be read.
    """
    if not verify:
        return False
    try:
        if ca_file is not None:
            return ssl.create_default_context(cafile=str(ca_file))
        return httpx.create_ssl_context()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
    except (OSError, ssl.SSLError) as error:
        named = ca_file or "SSL_CERT_FILE or SSL_CERT_DIR"
        raise ServescopeError(f"{named}: cannot read the certificates ({error})") from error


class HttpApi:
    """One server that is asked over HTTP; `program` says who should answer there, in the lines of what goes wrong."""

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
        """Ask with the parameters in the address.

        Raises:
            ServescopeError: the server does not answer.
        """
        return self._send("GET", path, params=parameters)

    def post_form(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        """Ask with the parameters in the body, where they may be longer than an address.

        Raises:
            ServescopeError: the server does not answer.
        """
        return self._send("POST", path, data=parameters)

    def post_json(self, path: str, document: Any) -> httpx.Response:
        """Ask with a JSON document.

        Raises:
            ServescopeError: the server does not answer.
        """
        return self._send("POST", path, json=document)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"{self.url}{path}", **content)
        except httpx.HTTPError as error:
            raise ServescopeError(
                f"{self.url}: {self.program} does not answer ({error or type(error).__name__})"
            ) from error

    def refused(self, reason: str, status: int | None = None) -> ServescopeError:
        """The error of a query that the server refuses."""
        code = "" if status is None else f" ({status})"
        return ServescopeError(f"{self.url}: {self.program} refuses the query{code}: {reason}")

    def unexpected(self, detail: object) -> ServescopeError:
        """The error of an answer that another program gave."""
        return ServescopeError(f"{self.url}: answers, but not as {self.program} does ({detail})")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reads the fields of an answer: another server's has others.

        Raises:
            ServescopeError: a field is missing or of another type.
        """
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self.unexpected(f"{type(error).__name__}: {error}") from error


def json_or_refused(api: HttpApi, response: httpx.Response) -> Any:
    """The JSON of a good answer. Where it is none, the server says in plain text what it did not like.

    Raises:
        ServescopeError: the server refused the query, or the answer is not JSON.
    """
    try:
        if response.is_success:
            return response.json()
    except ValueError:
        pass
    raise api.refused(" ".join(response.text.split())[:200], response.status_code)
