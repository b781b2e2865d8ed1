"""The commands. They raise ServescopeError for whatever the user can mend; `__main__` prints it as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from servescope import settings as settings_module

app = typer.Typer(
    help="Observability for Ray Serve: dashboards, rules, logs and traces.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_out = Console(highlight=False, soft_wrap=True)

SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="A YAML file of `name: value` lines; see docs/settings.md.")
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
    from servescope import slo as slo_module

    slos = slo_module.load(slo) if slo else []
    _write(generate.rule_files(settings_module.load(settings), slos, time_scale), output)


@app.command(name="generate", hidden=True)
def generate_all(output: OutputOption = Path(), settings: SettingsOption = None) -> None:
    """Regenerate every generated file of this repository."""
    from servescope import generate

    _write(generate.repository_files(settings_module.load(settings)), output)
