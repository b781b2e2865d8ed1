"""What a request needs to be let in: addresses, credentials from files or the environment, certificates to trust.

A value is never taken from the command line, where every user of the machine can read it, and is read again for each
request, so that a token can be rotated. No error of this module says what a file or a variable holds.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx

from servescope.errors import ServescopeError

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REDACTED = "***"


@dataclass(frozen=True)
class Address:
    """Where a server is: `url` may be shown to anybody, `authorization` is the header for the user in the address."""

    url: str
    host: str
    authorization: str = field(default="", repr=False)

    @property
    def loopback(self) -> bool:
        """Whether it is this very machine, by name or by number."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, program: str) -> Address:
    """Take an address apart: a user and password in it become a header.

    Raises:
        ServescopeError: not the address of a server; the line repeats no part of one that may hold a credential.
    """
    shown = "" if "@" in text or "?" in text else f" {text!r}"
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    # An @ in the path is the end of a user or password with a slash in it.
    if url.scheme not in ("http", "https") or not url.host or "@" in url.path or url.query or url.fragment:
        raise ServescopeError(
            f"{program}: the address{shown} is not of the form http://HOST:PORT/PREFIX (characters such as / ? # @ in "
            "a user or password must be percent-encoded)"
        )
    authorization = _basic(f"{url.username}:{url.password}") if url.userinfo else ""
    return Address(str(url.copy_with(userinfo=b"")).rstrip("/"), url.host, authorization)


def redacted_url(text: str) -> str:
    """An address as it may be shown: without user and password.

    Raises:
        ServescopeError: not the address of a server.
    """
    return parse_address(text, "URL").url


@dataclass(frozen=True)
class HeaderSource:
    """A header of every request, whose value is in a file or in an environment variable."""

    name: str
    file: Path | None = None
    variable: str = ""

    def value(self) -> str:
        """What to send now.

        Raises:
            ServescopeError: it cannot be read, or cannot be sent.
        """
        if self.file is not None:
            return _from_file(self.file)
        return _sendable(os.environ.get(self.variable, ""), f"environment variable {self.variable}")


def read_headers(texts: Sequence[str]) -> tuple[HeaderSource, ...]:
    """`NAME=@FILE` and `NAME=env:VARIABLE` as headers.

    Raises:
        ServescopeError: another form; the line does not repeat it, since it may hold a credential.
    """
    found = []
    for text in texts:
        name, _, source = text.partition("=")
        kind = next((prefix for prefix in ("@", "env:") if source.startswith(prefix)), "")
        place = source.removeprefix(kind)
        if not (_HEADER_NAME.fullmatch(name) and kind and place):
            raise ServescopeError(
                "--header: not of the form NAME=@FILE or NAME=env:VARIABLE; a value on the command line would be "
                "visible to every user of this machine (ps)"
            )
        found.append(HeaderSource(name, Path(place)) if kind == "@" else HeaderSource(name, variable=place))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Access:
    """What every request of a command carries, and which certificates it trusts.

    `basic_auth_file` holds `user:password`; `tenant` is Mimir's, Loki's, Tempo's and Cortex' X-Scope-OrgID. A user and
    password in an address replace the Authorization header for the server at that address.
    """

    headers: tuple[HeaderSource, ...] = ()
    bearer_token_file: Path | None = None
    basic_auth_file: Path | None = None
    ca_file: Path | None = None
    tenant: str = ""

    def __post_init__(self) -> None:
        authorizing = [header.name for header in self.headers if header.name.lower() == "authorization"]
        if len(authorizing) + sum(map(bool, (self.bearer_token_file, self.basic_auth_file))) > 1:
            raise ServescopeError("give only one of --bearer-token-file, --basic-auth-file, --header Authorization=...")
        if self.tenant:
            _sendable(self.tenant, "--tenant")
        self.request_headers()  # a file that cannot be read is found before anything is asked

    def request_headers(self) -> dict[str, str]:
        """The headers of one request, read now.

        Raises:
            ServescopeError: a value cannot be read, or cannot be sent.
        """
        result = {header.name: header.value() for header in self.headers}
        if self.bearer_token_file is not None:
            result["Authorization"] = f"Bearer {_from_file(self.bearer_token_file)}"
        if self.basic_auth_file is not None:
            pair = _from_file(self.basic_auth_file, ascii_only=False)
            if ":" not in pair:
                raise ServescopeError(f"{self.basic_auth_file}: not of the form user:password")
            result["Authorization"] = _basic(pair)
        if self.tenant:
            result["X-Scope-OrgID"] = self.tenant
        return result


PUBLIC = Access()


def redacted(text: str, headers: Iterable[tuple[str, str]]) -> str:
    """A text without the values of headers that it may repeat, as a server does that says what it refuses."""
    for name, value in headers:
        if name == "X-Scope-OrgID":
            continue
        parts = {value, value.partition(" ")[2]} if name.lower() == "authorization" else {value}
        if value.startswith("Basic "):
            pair = base64.b64decode(value.removeprefix("Basic ")).decode()
            parts |= {pair, pair.partition(":")[2]}
        for part in sorted(parts - {""}, key=len, reverse=True):
            text = text.replace(part, _REDACTED)
    return text


def _basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _from_file(path: Path, *, ascii_only: bool = True) -> str:
    # What is no plain file, such as a pipe of the shell's <(command), can be read only once.
    text = _read(path) if path.is_file() else _read_once(path)
    return _sendable(text, str(path), ascii_only=ascii_only)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not plain text"
        raise ServescopeError(f"{path}: cannot read the credential ({reason})") from None


@cache
def _read_once(path: Path) -> str:
    return _read(path)


def _sendable(text: str, where: str, *, ascii_only: bool = True) -> str:
    value = text.strip()
    if not value:
        raise ServescopeError(f"{where}: empty")
    if not value.isprintable() or (ascii_only and not value.isascii()):
        raise ServescopeError(f"{where}: holds characters that a header cannot carry")
    return value
