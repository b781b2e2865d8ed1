"""VictoriaMetrics and vmalert over the worlds: a single node, and the rules as vmalert replays them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mirakuru import HTTPExecutor

from demo import ROOT
from demo.stack.ports import LOOPBACK
from servescope.promql.durations import milliseconds
from tests.support.servers import free_port

STORE, EVALUATOR = ROOT / ".tools/victoria-metrics", ROOT / ".tools/vmalert"

required = pytest.mark.skipif(
    not (STORE.exists() and EVALUATOR.exists()),
    reason="VictoriaMetrics is not built: make test-stores builds it with Go",
)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A VictoriaMetrics with its defaults, but for what samples of years ago need; yields its address."""
    address = f"{LOOPBACK}:{free_port()}"
    command = [
        str(STORE),
        f"-storageDataPath={folder}",
        f"-httpListenAddr={address}",
        "-retentionPeriod=100y",
        "-search.disableCache",  # rules are replayed into a past that was asked before
        "-loggerLevel=ERROR",
    ]
    with HTTPExecutor(command, url=f"http://{address}/health", timeout=60):
        yield f"http://{address}"


def flush(url: str) -> None:
    """Let queries see what was written; VictoriaMetrics does so by itself within seconds."""
    httpx.get(f"{url}/internal/force_flush", timeout=60, trust_env=False).raise_for_status()


def replay(url: str, documents: Sequence[Mapping[str, Any]], *, start: int, end: int, folder: Path) -> None:
    """What rule files say of a time range (unix seconds), written into the store: recorded series and ALERTS.

    vmalert replays rule by rule, each over the whole range: a rule that reads what another one records comes after it,
    and one that reads what it has recorded itself is replayed evaluation by evaluation.
    """
    for number, layer in enumerate(layers(documents)):
        path = folder / f"rules-{start}-{number}.yml"
        path.write_text(yaml.safe_dump({"groups": layer}, width=10_000))
        every_s = milliseconds(layer[0]["interval"]) // 1000
        alone = any(reads_itself(rule) for group in layer for rule in group["rules"])
        for first, last in ((at, at + 1) for at in range(start, end + 1, every_s)) if alone else ((start, end),):
            _replay(url, path, first, last)
            flush(url)


def _replay(url: str, rules: Path, start: int, end: int) -> None:
    command = [
        str(EVALUATOR),
        f"-rule={rules}",
        f"-datasource.url={url}",
        f"-remoteWrite.url={url}",
        f"-replay.timeFrom={_rfc3339(start)}",
        f"-replay.timeTo={_rfc3339(end)}",
        "-replay.rulesDelay=0s",
        "-replay.disableProgressBar",
        "-httpListenAddr=",
        "-loggerLevel=WARN",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def _rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def reads_itself(rule: Mapping[str, Any]) -> bool:
    """Whether a rule goes on from what it has recorded."""
    return "record" in rule and rule["record"] in rule["expr"]


def layers(documents: Sequence[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The groups of rule files, cut so that no rule reads what another one of its layer or of a later one records.

    Rules that read themselves have a layer of their own for each interval.
    """
    left = [(group, rule) for document in documents for group in document["groups"] for rule in group["rules"]]
    while left:
        waiting = {rule["record"] for _, rule in left if "record" in rule}
        ready = [
            (group, rule)
            for group, rule in left
            if not any(name in rule["expr"] for name in waiting - {rule.get("record")})
        ]
        assert ready, f"rules that read each other: {waiting}"
        left = [one for one in left if one not in ready]
        kinds: dict[str, dict[str, dict[str, Any]]] = {}
        for group, rule in ready:
            groups = kinds.setdefault(group["interval"] if reads_itself(rule) else "", {})
            groups.setdefault(group["name"], {**group, "rules": []})["rules"].append(rule)
        for groups in kinds.values():
            yield list(groups.values())
