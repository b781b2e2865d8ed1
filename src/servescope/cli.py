"""The commands of `servescope`, each a thin layer over the packages below it.

They raise ServescopeError for whatever the user can fix; `__main__` prints it as one line.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.core import TyperGroup

from servescope import __version__
from servescope import settings as settings_module

app = typer.Typer(
    help="Observability for Ray Serve: dashboards, rules, logs and traces.",
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
            "--version", callback=_print_version, is_eager=True, help="Print the versions that a bug report needs."
        ),
    ] = False,
) -> None:
    pass


SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="A YAML file of `name: value` lines; the names stand in src/servescope/settings.py."
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The folder to write into.")]


def _write(files: dict[Path, str], output: Path) -> None:
    from servescope.files import write_all

    changed = write_all({output / path: text for path, text in files.items()})
    _out.print(f"{len(files)} files in {output}, {len(changed)} of them changed")


@app.command()
def dashboards(output: OutputOption = Path("dashboards"), settings: SettingsOption = None) -> None:
    """Generate the dashboards, and below recorded/ the variant that reads our recording rules."""
    from servescope import generate

    _write(generate.dashboard_files(settings_module.load(settings)), output)


@app.command()
def rules(
    *,
    output: OutputOption = Path("alerts"),
    settings: SettingsOption = None,
    slo: Annotated[
        Path | None, typer.Option("--slo", help="Service level objectives: our YAML or OpenSLO v1; see docs/slo.md.")
    ] = None,
    time_scale: Annotated[
        float, typer.Option("--time-scale", min=1, help="Divide every duration of alerts and SLOs, for drills.")
    ] = 1,
) -> None:
    """Generate the Prometheus rules: recordings, alerts and, with --slo, burn-rate alerts of your objectives."""
    from servescope import generate
    from servescope.rules.slo import objectives as slo_module

    slos = slo_module.load(slo) if slo else []
    _write(generate.rule_files(settings_module.load(settings), slos, time_scale), output)


HeaderOption = Annotated[
    list[str] | None,
    typer.Option("--header", help="NAME=@FILE or NAME=env:VARIABLE: a header of each request; repeat it for several."),
]


@app.command()
def exporter(
    *,
    address: Annotated[
        str,
        typer.Option("--address", "-a", envvar="RAY_DASHBOARD_ADDRESS", help="The address of Ray's dashboard."),
    ] = "http://127.0.0.1:8265",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 9475,
    interval: Annotated[float, typer.Option(help="Seconds between two fetches.", min=1)] = 10,
    timeout: Annotated[float, typer.Option(help="Seconds that a fetch may take.", min=0.1)] = 10,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="RAY_AUTH_TOKEN_PATH", help="A file with Ray's token; else RAY_AUTH_TOKEN holds it."),
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Certificates to trust, as PEM.")] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Check the server's certificate.")] = True,
    all_states: Annotated[
        bool, typer.Option("--all-states", help="Also export states that do not hold, as 0.")
    ] = False,
    each_replica: Annotated[
        bool, typer.Option("--each-replica", help="Also export a series for each replica.")
    ] = False,
    header: HeaderOption = None,
    once: Annotated[bool, typer.Option("--once", help="Fetch once, print the metrics, and end.")] = False,
) -> None:
    """Export what Serve's REST API knows and its metrics do not: limits, status, versions, resources."""
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


# Where the demo keeps them, and where Ray does.
LOG_FOLDERS = (Path("/tmp/servescope-6379/session_latest/logs/serve"), Path("/tmp/ray/session_latest/logs/serve"))


@app.command()
def trace(
    request: Annotated[
        str | None, typer.Argument(help="A trace id, or the request id of Serve's logs and answers.")
    ] = None,
    *,
    slowest_count: Annotated[
        int | None, typer.Option("--slowest", min=1, help="List the slowest requests, as many as this.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="List the requests that failed, the latest first.")] = False,
    folder: Annotated[
        Path, typer.Option("--traces", envvar="COLLECTOR_DATA", help="The folder of the Collector's trace files.")
    ] = Path(".servescope/demo/collector"),
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Serve's log folder; else the demo's or this machine's Ray's.")
    ] = None,
) -> None:
    """Show the tree of one request, with times, status and log lines, from the Collector's files: no Tempo needed."""
    from servescope.clients import otlp_files, serve_logs
    from servescope.clients.model import failed, slowest
    from servescope.errors import ServescopeError
    from servescope.report import trace_tree

    if (request is not None) + (slowest_count is not None) + errors != 1:
        raise ServescopeError("trace: give one of REQUEST, --slowest N, --errors")
    if logs is not None and not logs.is_dir():
        raise ServescopeError(f"{logs}: is no folder of logs")
    found = otlp_files.read_traces(folder)
    if request is None:
        every = found.values()
        listed = failed(every) if errors else slowest(every, slowest_count or 1)
        for one in listed:
            _out.print(trace_tree.summary_line(one))
        if not listed:
            _out.print(f"none of the {len(found)} requests in {folder}")
        return
    matching = otlp_files.find(found, request)
    if not matching:
        raise ServescopeError(
            f"{request}: is the id of none of the {len(found)} traces in {folder}; a trace shows some seconds after "
            "its request, and old ones are rotated away"
        )
    logs = logs or next((place for place in LOG_FOLDERS if place.is_dir()), None)
    # Long lines fold inside their branch; in a file or a pipe they stay whole.
    wide = Console(highlight=False, width=None if _out.is_terminal else 1000)
    for one in matching:
        wide.print(trace_tree.tree(one, serve_logs.records_of(one, logs) if logs else ()))


PrometheusOption = Annotated[
    str, typer.Option("--prometheus", "-p", envvar="PROMETHEUS_URL", help="The address of Prometheus.")
]
DashboardOption = Annotated[
    list[str] | None, typer.Option("--dashboard", "-d", help="A dashboard's uid, as often as wanted; else all.")
]
DashboardsOption = Annotated[
    Path | None, typer.Option("--dashboards", help="A folder of dashboards' JSON, in place of our own.")
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
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("snapshot.html"),
    prometheus: PrometheusOption = "http://127.0.0.1:9090",
    from_: Annotated[str, typer.Option("--from", help="Its start: now-1h, -1h, now-1d/d, or ISO 8601.")] = "now-1h",
    to: Annotated[str, typer.Option("--to", help="Its end, in the same forms.")] = "now",
    dashboard: DashboardOption = None,
    dashboards: DashboardsOption = None,
    var: Annotated[
        list[str] | None, typer.Option("--var", help="application=main: choose a value; repeat it for several.")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="What stands on top.")] = "Ray Serve",
    tempo: Annotated[
        str | None, typer.Option("--tempo", envvar="TEMPO_URL", help="Tempo's address: adds the slowest traces.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option("--traces", help="A folder of the Collector's trace files, where there is no Tempo.")
    ] = None,
    loki: Annotated[
        str | None, typer.Option("--loki", envvar="LOKI_URL", help="Loki's address: adds the lines around the alert.")
    ] = None,
    loki_query: Annotated[str, typer.Option("--loki-query", help="Which lines, in LogQL.")] = '{job="ray"}',
    logs: Annotated[
        Path | None, typer.Option("--logs", help="A session's logs/serve folder, where there is no Loki.")
    ] = None,
    logs_around: Annotated[
        str | None, typer.Option("--logs-around", help="The moment of the log lines; else the first firing alert.")
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
    """Write one HTML file with dashboards, alerts, traces and logs of a time range; it opens without a network."""
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
        raise ServescopeError(f"{output} was written, but not all of it: {'; '.join(written.problems)}")


@app.command()
def preview(
    *,
    prometheus: PrometheusOption = "http://127.0.0.1:9090",
    port: Annotated[int, typer.Option(help="The port to listen on, on loopback.", min=0, max=65535)] = 9470,
    dashboards: DashboardsOption = None,
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
    """Serve the dashboards as pages on loopback, refreshing, for where there is no Grafana; read only."""
    from servescope.clients.access import Access, read_headers
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
        port=port,
        folder=dashboards,
        settings=settings_module.load(settings),
        access=access,
        timeout_s=timeout,
    )


@app.command()
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Rule files, dashboards, or folders of them.")] = None,
    *,
    own: Annotated[
        list[str] | None,
        typer.Option("--own", help="A prefix of your application's metrics, as ray_vllm_; as often as wanted."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="A label that your Prometheus adds to every series; as often as wanted."),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Check your own Prometheus rules and Grafana dashboards for what misreads Ray's metrics; 1 where it finds any."""
    from servescope.errors import ServescopeError
    from servescope.promql import lint_files

    if not paths:
        raise ServescopeError("lint: give rule files, dashboards, or folders of them")
    report = lint_files.lint(paths, settings_module.load(settings), own=own or (), labels=label or ())
    for line in report.findings:
        typer.echo(line)
    for line in report.unreadable:
        typer.echo(f"servescope: {line}", err=True)
    if report.unfilled:
        typer.echo(f"servescope: {report.unfilled} expressions not checked: a variable has no saved value", err=True)
    if report.findings or report.unreadable:
        raise typer.Exit(1)
    typer.echo(f"{report.expressions} expressions in {report.files} files, no finding")


@app.command(name="generate", hidden=True)
def generate_all(output: OutputOption = Path(), settings: SettingsOption = None) -> None:
    """Regenerate every generated file of this repository."""
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
