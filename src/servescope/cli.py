"""The commands of `servescope`, each a thin layer over the packages below it.

They raise ServescopeError for anything the user can fix; `__main__` prints it as one line.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from servescope import __version__
from servescope import settings as settings_module

if TYPE_CHECKING:
    from servescope.clients.model import LogRecord, Trace

app = typer.Typer(
    help="Observability for Ray Serve: dashboards, rules, logs and traces.",
    epilog=(
        "Exit codes: 0 success; 1 an error that you can fix, or findings; 2 wrong usage; 70 internal error, a bug; "
        "130 interrupted. Every error is one line on stderr."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_out = Console(highlight=False, soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        ray = f"Ray {metadata.version('ray')}"
    except metadata.PackageNotFoundError:
        ray = "no Ray"
    typer.echo(f"servescope {__version__} (Python {platform.python_version()}, {ray})")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of servescope, Python and Ray.",
        ),
    ] = False,
    debug: Annotated[  # read by __main__, which takes it in any place
        bool,
        typer.Option(
            "--debug", help="Print the traceback of an internal error; in any place, or as SERVESCOPE_DEBUG=1."
        ),
    ] = False,
) -> None:
    pass


SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="Settings: a YAML file of `name: value` lines; src/servescope/settings.py lists the names."
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Output directory.")]


PruneOption = Annotated[
    bool, typer.Option("--prune", help="Delete files of servescope in the folder that are not written any more.")
]


def _write(files: dict[Path, str], output: Path) -> None:
    from servescope.files import write_all

    changed = write_all({output / path: text for path, text in files.items()})
    _out.print(f"{len(files)} files in {output}, {len(changed)} of them changed")


def _report_stale(stale: list[Path], output: Path, *, prune: bool) -> None:
    """Name the files of ours that were not written this time, or delete them, and the folders that are empty then."""
    from servescope.errors import ServescopeError

    if not stale:
        return
    names = ", ".join(map(str, stale))
    if not prune:
        typer.echo(f"servescope: {output}: stale, not written any more; delete with --prune: {names}", err=True)
        return
    for path in stale:
        try:
            (output / path).unlink(missing_ok=True)
        except OSError as error:
            raise ServescopeError(f"{output / path}: cannot delete ({error.strerror})") from error
    for folder in {path.parent for path in stale} - {Path()}:
        with suppress(OSError):  # other files are in it
            (output / folder).rmdir()
    typer.echo(f"deleted from {output}: {names}")


@app.command()
def dashboards(
    *, output: OutputOption = Path("dashboards"), settings: SettingsOption = None, prune: PruneOption = False
) -> None:
    """Generate the dashboards; recorded/ holds the variant that reads the recording rules."""
    from servescope import generate

    files = generate.dashboard_files(settings_module.load(settings))
    _write(files, output)
    _report_stale(generate.stale_dashboards(output, files), output, prune=prune)


@app.command()
def rules(
    *,
    output: OutputOption = Path("alerts"),
    settings: SettingsOption = None,
    slo: Annotated[
        Path | None,
        typer.Option("--slo", help="Service level objectives: servescope's YAML or OpenSLO v1; see docs/slo.md."),
    ] = None,
    time_scale: Annotated[
        float, typer.Option("--time-scale", min=1, help="Divide every duration of alerts and SLOs, for drills.")
    ] = 1,
    prune: PruneOption = False,
) -> None:
    """Generate the Prometheus rules: recording rules, alerts and, with --slo, burn-rate alerts for your objectives."""
    from servescope import generate
    from servescope.errors import ServescopeError
    from servescope.rules.slo import objectives as slo_module

    if not math.isfinite(time_scale):
        raise ServescopeError(f"--time-scale: expected a number of 1 or more, got {time_scale}")
    slos = slo_module.load(slo) if slo else []
    loaded = settings_module.load(settings)
    files = generate.rule_files(loaded, slos, time_scale)
    _write(files, output)
    _report_stale(generate.stale_rules(output, files, loaded), output, prune=prune)


HeaderOption = Annotated[
    list[str] | None,
    typer.Option("--header", help="NAME=@FILE or NAME=env:VARIABLE: a header of each request; repeat it for several."),
]


@app.command()
def exporter(
    *,
    address: Annotated[
        str,
        typer.Option(
            "--address", "-a", envvar="RAY_DASHBOARD_ADDRESS", help="URL of Ray's dashboard, which serves the REST API."
        ),
    ] = "http://127.0.0.1:8265",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 9475,
    interval: Annotated[float, typer.Option(help="Polling interval in seconds.", min=1)] = 10,
    timeout: Annotated[float, typer.Option(help="Timeout of a poll in seconds.", min=0.1)] = 10,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="RAY_AUTH_TOKEN_PATH", help="File with Ray's authentication token; default: RAY_AUTH_TOKEN."
        ),
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="CA certificates to trust, as PEM.")] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Verify the server's certificate.")] = True,
    all_states: Annotated[
        bool, typer.Option("--all-states", help="Also export inactive states, with the value 0.")
    ] = False,
    each_replica: Annotated[bool, typer.Option("--each-replica", help="Also export one series per replica.")] = False,
    header: HeaderOption = None,
    once: Annotated[bool, typer.Option("--once", help="Poll once, print the metrics and exit.")] = False,
) -> None:
    """Export Serve's configured limits, status, versions and resources, read from its REST API, as metrics."""
    from servescope.clients.access import read_headers
    from servescope.clients.ray import RayApi
    from servescope.exporter import server
    from servescope.exporter.poller import Exporter
    from servescope.exporter.state import Detail

    source = RayApi(
        url=address,
        token_file=token_file,
        ca_file=ca_file,
        verify=verify,
        timeout_s=timeout,
        headers=read_headers(header or []),
    )
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    state = Exporter(
        source,
        say=lambda line: errors.print(f"servescope: {line}"),
        interval_s=interval,
        detail=Detail(all_states, each_replica),
    )
    if once:
        if not state.poll():
            raise typer.Exit(1)
        typer.echo(state.metrics().decode(), nl=False)
        return
    server.run(state, host, port)


def _log_folder(traces: Path) -> Path | None:
    """The logs of the Ray whose traces are in a folder: the demo links them there; else this machine's Ray's."""
    linked = traces / "serve-logs"
    if not linked.is_symlink():
        linked = _this_machines_session() / "logs/serve"
    return linked if linked.is_dir() else None


@app.command()
def trace(
    request: Annotated[
        str | None, typer.Argument(help="A trace ID, or a request ID from Serve's logs or responses.")
    ] = None,
    *,
    slowest_count: Annotated[int | None, typer.Option("--slowest", min=1, help="List the N slowest requests.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="List failed requests, newest first.")] = False,
    folder: Annotated[
        Path, typer.Option("--traces", envvar="COLLECTOR_DATA", help="Directory of the Collector's trace files.")
    ] = Path(".servescope/demo/collector"),
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Serve's log directory; default: the demo's, else /tmp/ray's.")
    ] = None,
) -> None:
    """Show one request as a span tree with times, status and log lines, from the Collector's files; no Tempo needed."""
    from servescope.clients import otlp_files
    from servescope.clients.model import failed, slowest
    from servescope.errors import ServescopeError
    from servescope.report import trace_tree

    if (request is not None) + (slowest_count is not None) + errors != 1:
        raise ServescopeError("trace: pass exactly one of REQUEST, --slowest N, --errors")
    if logs is not None and not logs.is_dir():
        raise ServescopeError(f"{logs}: not a log directory")
    found = otlp_files.read_traces(folder, report=lambda line: typer.echo(f"servescope: {line}", err=True))
    if request is None:
        every = found.values()
        listed = failed(every) if errors else slowest(every, slowest_count or 1)
        for one in listed:
            _out.print(trace_tree.summary_line(one))
        if not listed:
            _out.print(f"no matching trace in {folder} ({len(found)} traces)")
        return
    matching = otlp_files.find(found, request)
    if not matching:
        raise ServescopeError(
            f"no trace with ID {request} in {folder} ({len(found)} traces); traces are written a few seconds after the "
            "request, and old files are rotated away"
        )
    logs = logs or _log_folder(folder)
    lines = _lines_or_why_not(logs)
    # Long lines fold inside their branch; in a file or a pipe they stay whole.
    wide = Console(highlight=False, width=None if _out.is_terminal else 1000)
    for one in matching:
        wide.print(trace_tree.tree(one, lines(one)))


def _lines_or_why_not(logs: Path | None) -> Callable[[Trace], list[LogRecord]]:
    """The log lines of a trace; without what reads them none, and one line that says what is missing."""
    from servescope.clients import log_lines
    from servescope.errors import ServescopeError

    def lines(trace: Trace) -> list[LogRecord]:
        try:
            return log_lines.of_trace(trace, logs) if logs else []
        except ServescopeError as error:
            typer.echo(f"servescope: no log lines: {error}", err=True)
            return []

    return lines


LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
_LEVEL_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "FATAL": "red", "DEBUG": "dim", "TRACE": "dim"}


@app.command()
def logs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the Collector's log files, or a session of Ray; default: the demo's, else session_latest."
        ),
    ] = None,
    *,
    request: Annotated[str | None, typer.Option("--request", help="A request ID, or a trace ID.")] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="A deployment, or application/deployment.")
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="This level and above; UNKNOWN is left out then.")
    ] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 90s, 15m, 2h, 1d.")] = "15m",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
) -> None:
    """Print log lines of Ray and Serve by time, from the Collector's files or Ray's own; no Loki needed."""
    from servescope.clients import log_files, log_lines
    from servescope.errors import ServescopeError
    from servescope.grafana.templating import parse_time

    if level is not None and level.upper() not in LEVELS:
        raise ServescopeError(f"--level: {level!r} is not one of {', '.join(LEVELS)}")
    now = time.time()
    start = parse_time(f"now-{since}", int(now), what="--since")
    if folder is None:
        collected = Path(".servescope/demo/collected-logs")
        folder = collected if log_files.has_files(collected) else _this_machines_session()
    wanted = (level or "TRACE").upper()

    def selected(record: LogRecord) -> bool:
        whose = (record.fields.get("deployment"), record.source)
        return (
            (request is None or request in record.ids)
            and (deployment is None or deployment in whose)
            and (level is None or record.level in LEVELS[LEVELS.index(wanted) :])
        )

    def show(records: Iterable[LogRecord]) -> None:
        for record in filter(selected, records):
            at = datetime.fromtimestamp(record.time_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            name = record.level or "UNKNOWN"
            style = _LEVEL_STYLES.get(name, "")
            _out.print(Text.assemble(f"{at}Z ", (f"{name:8}", style), f" {record.source}  ", record.text))

    follower = log_lines.Follower(folder) if follow else None
    told = [request] if request else []
    show(
        log_lines.read(
            folder, start, now, holding=told, report=lambda line: typer.echo(f"servescope: {line}", err=True)
        )
    )
    while follower is not None:
        show(follower.records())
        time.sleep(1)


def _this_machines_session() -> Path:
    """Ray's latest session, where Ray itself puts it."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray/session_latest")


PrometheusOption = Annotated[
    str, typer.Option("--prometheus", "-p", envvar="PROMETHEUS_URL", help="URL of Prometheus.")
]
DashboardOption = Annotated[
    list[str] | None, typer.Option("--dashboard", "-d", help="Dashboard uid; repeatable; default: all.")
]
DashboardsOption = Annotated[
    Path | None, typer.Option("--dashboards", help="Directory of dashboard JSON, instead of the bundled dashboards.")
]


BearerTokenOption = Annotated[
    Path | None, typer.Option("--bearer-token-file", help="A file with the bearer token of each request.")
]
BasicAuthOption = Annotated[
    Path | None, typer.Option("--basic-auth-file", help="A file with user:password for basic authentication.")
]
CaFileOption = Annotated[Path | None, typer.Option("--ca-file", help="Certificates to trust, as PEM.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant: X-Scope-OrgID of each request.")]


@app.command()
def snapshot(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file.")] = Path("snapshot.html"),
    prometheus: PrometheusOption = "http://127.0.0.1:9090",
    from_: Annotated[
        str, typer.Option("--from", help="Start of the time range: now-1h, -1h, now-1d/d, ISO 8601 or unix seconds.")
    ] = "now-1h",
    to: Annotated[str, typer.Option("--to", help="End of the time range, in the same forms.")] = "now",
    dashboard: DashboardOption = None,
    dashboards: DashboardsOption = None,
    var: Annotated[
        list[str] | None, typer.Option("--var", help="Value of a dashboard variable: application=main; repeatable.")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Report title.")] = "Ray Serve",
    tempo: Annotated[
        str | None,
        typer.Option("--tempo", envvar="TEMPO_URL", help="URL of Tempo: adds the slowest and the failed traces."),
    ] = None,
    traces: Annotated[
        Path | None, typer.Option("--traces", help="Directory of the Collector's trace files, instead of Tempo.")
    ] = None,
    loki: Annotated[
        str | None, typer.Option("--loki", envvar="LOKI_URL", help="URL of Loki: adds the log lines around the alert.")
    ] = None,
    loki_query: Annotated[
        str, typer.Option("--loki-query", help="LogQL query that selects the log lines.")
    ] = '{job="ray"}',
    logs: Annotated[
        Path | None, typer.Option("--logs", help="A Ray session's logs/serve directory, instead of Loki.")
    ] = None,
    logs_around: Annotated[
        str | None, typer.Option("--logs-around", help="Time of the log lines; default: the first firing alert.")
    ] = None,
    header: HeaderOption = None,
    bearer_token_file: BearerTokenOption = None,
    basic_auth_file: BasicAuthOption = None,
    ca_file: CaFileOption = None,
    tenant: TenantOption = "",
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that all queries to Prometheus may take.")
    ] = 300,
    settings: SettingsOption = None,
) -> None:
    """Write dashboards, alerts, traces and logs of a time range into one HTML file that opens offline."""
    from servescope.clients.access import Access, read_headers
    from servescope.errors import ServescopeError
    from servescope.report import snapshot as snapshot_module

    access = Access(
        headers=read_headers(header or []),
        bearer_token_file=bearer_token_file,
        basic_auth_file=basic_auth_file,
        ca_file=ca_file,
        tenant=tenant,
    )
    chosen = snapshot_module.read_choices(var or [])
    request = snapshot_module.SnapshotRequest(
        prometheus=prometheus,
        start=from_,
        end=to,
        dashboards=dashboard or [],
        folder=dashboards,
        chosen=chosen,
        title=title,
        tempo=tempo,
        traces=traces,
        loki=loki,
        loki_query=loki_query,
        logs=logs,
        logs_around=logs_around,
        access=access,
        timeout_s=timeout,
    )
    written = snapshot_module.write(request, settings_module.load(settings), output, console=Console(stderr=True))
    _out.print(f"{output}: {written.size / 1e6:.1f} MB in {written.seconds:.1f} s")
    if written.problems:
        raise ServescopeError(f"{output}: written, but incomplete: {'; '.join(written.problems)}")


@app.command()
def preview(
    *,
    prometheus: PrometheusOption = "http://127.0.0.1:9090",
    host: Annotated[str, typer.Option(help="Loopback address to listen on: 127.0.0.1 or ::1.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 9470,
    dashboards: DashboardsOption = None,
    traces: Annotated[Path | None, typer.Option("--traces", help="Directory of the Collector's trace files.")] = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Directory of the Collector's log files, or a session of Ray.")
    ] = None,
    header: HeaderOption = None,
    bearer_token_file: BearerTokenOption = None,
    basic_auth_file: BasicAuthOption = None,
    ca_file: CaFileOption = None,
    tenant: TenantOption = "",
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that the queries of a page or row may take.")
    ] = 60,
    settings: SettingsOption = None,
) -> None:
    """Serve the dashboards as read-only, refreshing pages on loopback, without Grafana."""
    from servescope.clients.access import Access, read_headers
    from servescope.report.collected import Collected
    from servescope.report.preview import run

    access = Access(
        headers=read_headers(header or []),
        bearer_token_file=bearer_token_file,
        basic_auth_file=basic_auth_file,
        ca_file=ca_file,
        tenant=tenant,
    )
    run(
        prometheus,
        host=host,
        port=port,
        folder=dashboards,
        settings=settings_module.load(settings),
        access=access,
        timeout_s=timeout,
        evidence=Collected(logs=logs, traces=traces),
    )


@app.command()
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Rule files, dashboards, or directories of them.")] = None,
    *,
    own: Annotated[
        list[str] | None,
        typer.Option("--own", help="Name prefix of your application's metrics, such as ray_vllm_; repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Label that your Prometheus adds to every series; repeatable."),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Find queries in your own Prometheus rules and Grafana dashboards that misread Ray's metrics; exits 1 if any."""
    from servescope.errors import ServescopeError
    from servescope.promql import lint_files

    if not paths:
        raise ServescopeError("lint: pass rule files, dashboards, or directories of them")
    report = lint_files.lint(paths, settings_module.load(settings), own=own or (), labels=label or ())
    for line in report.findings:
        typer.echo(line)
    for line in report.unreadable:
        typer.echo(f"servescope: {line}", err=True)
    if report.unfilled:
        typer.echo(f"servescope: {report.unfilled} expressions not checked: a variable without a saved value", err=True)
    if report.findings or report.unreadable:
        raise typer.Exit(1)
    typer.echo(f"{report.expressions} expressions in {report.files} files, no findings")


@app.command(name="generate", hidden=True)
def generate_all(output: OutputOption = Path(), settings: SettingsOption = None) -> None:
    """Regenerate all generated files of this repository."""
    from servescope import generate

    _write(generate.repository_files(settings_module.load(settings), commands()), output)


def commands() -> dict[str, list[str]]:
    """Each command with its arguments and the first name of each option."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {
        f"servescope {name}": [parameter.opts[0] for parameter in command.params]
        for name, command in group.commands.items()
        if not command.hidden
    }
