"""Find errors in a Fluent Bit configuration that `fluent-bit --dry-run` does not report.

    python scripts/check_fluentbit.py fluentbit/fluent-bit.yaml

An undefined parser leaves records unparsed, an output whose match fits no tag receives nothing, an unknown service key
has no effect, and buffers on disk need a path: Fluent Bit reports these at startup, or not at all.
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

SECTIONS = {"env", "customs", "plugins", "stream_processor", "upstream_servers"}  # in addition to those read below
KINDS = ("service", "parsers", "multiline_parsers", "inputs", "filters", "outputs", "unknown")
# Keys of the service section that version 5.1.1 reads
SERVICE_KEYS = {
    "coro_stack_size",
    "daemon",
    "dns.mode",
    "dns.prefer_ipv4",
    "dns.prefer_ipv6",
    "dns.resolver",
    "enable_chunk_trace",
    "flush",
    "flush.adaptive",
    "flush.adaptive.down_steps",
    "flush.adaptive.high_pressure",
    "flush.adaptive.low_pressure",
    "flush.adaptive.max_interval",
    "flush.adaptive.medium_pressure",
    "flush.adaptive.min_interval",
    "flush.adaptive.up_steps",
    "grace",
    "hc_errors_count",
    "hc_period",
    "hc_retry_failure_count",
    "health_check",
    "hot_reload",
    "hot_reload.ensure_thread_safety",
    "hot_reload.timeout",
    "http_listen",
    "http_port",
    "http_server",
    "json.convert_nan_to_null",
    "json.escape_unicode",
    "log_file",
    "log_level",
    "multiline_buffer_limit",
    "parsers_file",
    "plugins_file",
    "scheduler.base",
    "scheduler.cap",
    "security.fips_mode",
    "sp.convert_from_str_to_num",
    "storage.backlog.flush_on_shutdown",
    "storage.backlog.mem_limit",
    "storage.checksum",
    "storage.delete_irrecoverable_chunks",
    "storage.inherit",
    "storage.keep.rejected",
    "storage.max_chunks_up",
    "storage.metrics",
    "storage.path",
    "storage.rejected.limit",
    "storage.rejected.path",
    "storage.sync",
    "storage.trim_files",
    "storage.type",
    "streams_file",
    "windows.maxstdio",
}
BUILT_IN_MULTILINE = {"docker", "cri", "go", "java", "python", "ruby"}
# Filters that emit records under a tag of their own, and the key of that tag.
EMITTERS = {"log_to_metrics": "tag", "rewrite_tag": "rule"}


def load(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, list[Any]]:
    """The contents of a file and its includes, a list for each kind; the service's is one of (key, value)."""
    if path in seen:
        raise ValueError(f"{path}: included twice")
    document = yaml.safe_load(path.read_text()) or {}
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for section, content in document.items():
        if section == "includes":
            for name in content:
                for kind, items in load(path.parent / name, (*seen, path)).items():
                    found[kind] += items
        elif section == "service":
            found["service"] += content.items()
        elif section in ("parsers", "multiline_parsers"):
            found[section] += content
        elif section == "pipeline":
            for kind, items in content.items():
                found.setdefault(kind, []).extend(items)
        elif section not in SECTIONS:
            found["unknown"].append(section)
    return found


def expand(text: str, environment: dict[str, str]) -> str:
    """A value as Fluent Bit reads it: ${NAME:-default}."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda m: environment.get(m[1], m[2] or ""), text)


def complaints(path: Path, environments: list[dict[str, str]]) -> list[str]:
    """The findings, a line each; matches are checked in all environments together."""
    config = load(path)
    service = {str(key).lower(): value for key, value in config["service"]}
    parsers = {parser["name"] for parser in config["parsers"]}
    multiline = {parser["name"] for parser in config["multiline_parsers"]} | BUILT_IN_MULTILINE
    found = [f"unknown section {section}" for section in config["unknown"]]
    found += [f"service: unknown key {key}" for key in service if key not in SERVICE_KEYS]
    tags = {str(i.get("tag", "")) for i in config["inputs"]}
    tags |= {str(f[EMITTERS[f["name"]]]) for f in config["filters"] if f["name"] in EMITTERS}
    for kind in ("inputs", "filters", "outputs"):
        for item in config[kind]:
            name = f"{kind[:-1]} {item.get('alias', item.get('name', '?'))}"
            if "parser" in item and item["parser"] not in parsers:
                found.append(f"{name}: undefined parser {item['parser']}")
            if "multiline.parser" in item:
                for parser in str(item["multiline.parser"]).split(","):
                    if parser.strip() not in multiline:
                        found.append(f"{name}: undefined multiline parser {parser.strip()}")
            if item.get("storage.type") == "filesystem" and not service.get("storage.path"):
                found.append(f"{name}: storage.type filesystem needs storage.path in the service section")
            if "script" in item and not (path.parent / item["script"]).exists():
                found.append(f"{name}: script not found: {item['script']}")
            if kind == "inputs":
                if item["name"] == "tail" and not item.get("path"):
                    found.append(f"{name}: tail without a path reads nothing")
                if not item.get("tag"):
                    found.append(f"{name}: no tag")
                continue
            match = str(item.get("match", item.get("match_regex", "")))
            if not match:
                found.append(f"{name}: no match, so it receives nothing")
            elif not any(fnmatchcase(expand(tag, env), expand(match, env)) for env in environments for tag in tags):
                found.append(f"{name}: no tag matches {match}")
    for env in environments:
        for tag in sorted(tags):
            expanded = expand(tag, env)
            if not any(
                fnmatchcase(expanded, expand(str(output.get("match", "")), env)) for output in config["outputs"]
            ):
                found.append(f"tag {expanded}: no output matches it")
    return found


def main() -> int:
    """Check each file for every value of RAY_LOGS_TO."""
    found = []
    for name in sys.argv[1:]:
        environments = [{}, *({"RAY_LOGS_TO": output} for output in ("loki", "otlp", "stdout"))]
        found += [f"{name}: {complaint}" for complaint in complaints(Path(name), environments)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
