"""For queries over hours of data that nobody has scraped: promtool writes blocks, and a real Prometheus serves them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from mirakuru import HTTPExecutor

from demo.stack.ports import LOOPBACK
from tests.support.promtool import run
from tests.support.servers import free_port


class BackfilledPrometheus:
    """The folder of one Prometheus: fill it, then run the server over it."""

    def __init__(self, folder: Path, rules: Sequence[Path] = (), *, program: str = "") -> None:
        """`rules` are files that the server evaluates from its start on; `program` is another server than usual."""
        self._program = program or os.environ.get("PROMETHEUS", "prometheus")
        self._folder = folder
        self._data = folder / "data"
        self._config = folder / "prometheus.yml"
        self._config.write_text(yaml.safe_dump({"global": {}, "rule_files": [str(path) for path in rules]}))

    def backfill(self, lines: Iterable[str]) -> None:
        """Make blocks of OpenMetrics text, whose lines end in their time in unix seconds and the last is `# EOF`."""
        text = self._folder / "samples.txt"
        with text.open("w") as out:
            out.writelines(lines)
        made = run("tsdb", "create-blocks-from", "openmetrics", "-q", text, self._data)
        assert made.returncode == 0, made.stderr
        text.unlink()

    def backfill_rules(self, rules: Sequence[Path], start: int, end: int) -> None:
        """Add what recording rules say of a range, as one does who adds them to a Prometheus that was there before.

        promtool asks the store for what a rule reads: records of records come with the second run.
        """
        span = ("--start", str(start), "--end", str(end))
        filled = self._folder / "filled"
        command = ("tsdb", "create-blocks-from", "rules", "-q", *span, "--output-dir", filled)
        for _ in range(2):
            with self.server() as url:
                made = run(*command, "--url", url, *rules)
            assert made.returncode == 0, made.stderr
            for block in filled.iterdir():
                block.rename(self._data / block.name)

    @contextmanager
    def server(self, *flags: str, ready: str = "/-/ready", ready_status: int = 200) -> Iterator[str]:
        """The server, once `ready` answers with `ready_status`; yields its address."""
        address = f"{LOOPBACK}:{free_port()}"
        command = [
            self._program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            "--log.level=error",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={address}",
            *flags,
        ]
        with HTTPExecutor(command, url=f"http://{address}{ready}", status=ready_status, timeout=60):
            yield f"http://{address}"
