"""Where spans go, by the standard variables; and in one line without secrets, why they do not arrive there."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from servescope.errors import ServescopeError

PROTOCOLS = ("grpc", "http/protobuf")
DEFAULT_PORTS = {"grpc": 4317, "http/protobuf": 4318}
PREFIXES = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")  # the first that is set counts
FILES = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")

# What the SDK reads of a header, `name=value`; it would print any other with its value.
_HEADER = re.compile(r"[ \t]*[!#-'*+.0-9A-Z^-z|~-]+[ \t]*=[ !#-+.-:<-\[\]-~-]*")

# The SDK writes a line or a traceback for each attempt; these loggers are silent while we listen.
_LOGGERS = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)

_UNREACHABLE = ("it cannot be reached", "is a Collector running there?")
# What the SDK says of a failure, in our words, with what to look at. The first that matches counts.
_FAILURES = (
    (
        r"code: 40[13]\b|UNAUTHENTICATED|PERMISSION_DENIED",
        "the credentials are refused",
        "check OTEL_EXPORTER_OTLP_HEADERS",
    ),
    (
        r"code: 40[45]\b|UNIMPLEMENTED",
        "there is no such path",
        "OTEL_EXPORTER_OTLP_ENDPOINT is without /v1/traces, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT with it",
    ),
    (
        r"(?i)certificate|\bssl|\btls|handshake",
        "no TLS connection",
        "check https:// or http:// in the endpoint, and OTEL_EXPORTER_OTLP_CERTIFICATE",
    ),
    (r"code: [45]\d\d\b|INVALID_ARGUMENT|RESOURCE_EXHAUSTED|INTERNAL", "the spans are refused", "see its own log"),
    (r"(?i)refused|unreachable|resol", *_UNREACHABLE),
    (r"(?i)timed? ?out|DEADLINE_EXCEEDED", "no answer in time", "see its own log"),
)


def variable(name: str) -> tuple[str, str]:
    """Name and value of `OTEL_EXPORTER_OTLP_TRACES_<name>`, else of the variable for all signals; both may be empty."""
    for prefix in PREFIXES:
        if value := os.environ.get(f"{prefix}{name}", "").strip():
            return f"{prefix}{name}", value
    return "", ""


@dataclass(frozen=True)
class Destination:
    """A checked endpoint. `url` has no credentials and no query."""

    protocol: str
    url: str

    def why(self, said: str) -> str:
        """One line on what the SDK said of a failure: what, where, and what to look at."""
        said = said.replace("due to timeout, max retries or shutdown", "")  # said of all that the SDK gives up
        what, look = next((words for pattern, *words in _FAILURES if re.search(pattern, said)), _UNREACHABLE)
        other = next(protocol for protocol in PROTOCOLS if protocol != self.protocol)
        if f":{DEFAULT_PORTS[other]}" in self.url:
            look = (
                f"{DEFAULT_PORTS[other]} is the port of {other}: set OTEL_EXPORTER_OTLP_PROTOCOL={other}, or the port "
                f"{DEFAULT_PORTS[self.protocol]}"
            )
        return f"spans cannot be sent to {self.url} by {self.protocol}: {what}; {look}"


def destination() -> Destination:
    """The endpoint that the standard variables select.

    Raises:
        ServescopeError: a variable is wrong: protocol, endpoint, headers, or a file of a certificate or key.
    """
    name, protocol = variable("PROTOCOL")
    if protocol and protocol not in PROTOCOLS:
        raise ServescopeError(f"{name}: {protocol!r} is not one of {', '.join(PROTOCOLS)}")
    protocol = protocol or PROTOCOLS[0]
    name, endpoint = variable("ENDPOINT")
    if endpoint and "://" not in endpoint:
        raise ServescopeError(f"{name}: {endpoint!r} has no scheme; for example http://127.0.0.1:4317")
    endpoint = endpoint or f"http://localhost:{DEFAULT_PORTS[protocol]}"
    try:
        parts = urlsplit(endpoint)
        where = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError as error:
        raise ServescopeError(f"{name}: not a URL ({error})") from error
    _check_headers()
    if parts.scheme == "https":
        _check_files()
    return Destination(protocol, f"{parts.scheme}://{where}{parts.path}")


def _check_headers() -> None:
    """A header that the SDK cannot read: it would send the spans without it, and print it with its value."""
    name, text = variable("HEADERS")
    for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        if not _HEADER.fullmatch(entry):
            raise ServescopeError(
                f"{name}: entry {number} is not name=value, such as Authorization=Bearer%20...; commas and quotes in a "
                "value are written as %2C and %22"
            )


def _check_files() -> None:
    for what in FILES:
        name, path = variable(what)
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise ServescopeError(f"{name}: {path}: cannot read this file")


class _Listener(logging.Filter):
    """Takes what the SDK says in a thread that listens, in place of the log."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: dict[int, list[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        heard = self._heard.get(threading.get_ident())
        if heard is None:
            return True
        heard.append(record.getMessage())
        return False

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """What is said in this thread, while the block lasts."""
        heard = self._heard[threading.get_ident()] = []
        try:
            yield heard
        finally:
            del self._heard[threading.get_ident()]


_LISTENER = _Listener()


@contextmanager
def listening() -> Iterator[list[str]]:
    """What the SDK's exporters say in this thread while the block lasts; it does not reach the log."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_LISTENER)  # once: a filter that is there is not added
    with _LISTENER.listening() as heard:
        yield heard
