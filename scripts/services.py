"""The table of the compose services, generated from the compose files.

    python -m scripts.services --write    # writes it into README.md; without --write it is printed

Names, ports and purposes come from docker-compose.yml and docker-compose.gpu.yml, versions from .env.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml

from demo import ROOT
from servescope import __version__
from servescope.files import write_all

BEGIN, END = "<!-- services: made by scripts/services.py -->", "<!-- /services -->"


def services() -> dict[str, dict[str, Any]]:
    """The services of both files."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("docker-compose.yml", "docker-compose.gpu.yml"):
        document = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        # Services that the second file only changes have no `x-what` there.
        found |= {service: entry for service, entry in document["services"].items() if "x-what" in entry}
    return found


def pins() -> dict[str, str]:
    """The variables of .env."""
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def version(image: str, pinned: dict[str, str]) -> str:
    """The version of a compose file's image; servescope's for the exporter, Ray's for the demo."""
    variable = re.match(r"\$\{(\w+)", image)
    if variable:
        return pinned[variable.group(1)].rpartition(":")[2].removeprefix("v")
    if image == "servescope-exporter":
        return __version__
    ray = re.search(r"^ray==(\S+)", (ROOT / "requirements/demo.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert ray
    return f"Ray {ray.group(1)}"


def table() -> str:
    """The table as Markdown."""
    pinned = pins()
    lines = ["| service | port on localhost | version | purpose |", "|---|---|---|---|"]
    for name, service in services().items():
        ports = [str(port).split(":")[1] for port in service.get("ports", [])]
        links = ", ".join(f"[{port}](http://localhost:{port})" for port in ports)
        lines.append(f"| {name} | {links} | {version(service['image'], pinned)} | {service['x-what']} |")
    return "\n".join(lines)


def replaced(text: str) -> str:
    """A page with the table between its marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    if sys.argv[1:] == ["--write"]:
        write_all({readme: replaced(readme.read_text(encoding="utf-8"))})
    else:
        print(table())
