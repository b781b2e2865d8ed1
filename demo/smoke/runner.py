"""Run the checks of the running components until all pass, and print the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from demo.smoke.backends import Addresses, Backends, NotYet
from demo.smoke.checks import CHECKS, Check

out = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a check ended: what it found, or what is still missing."""

    check: Check
    found: bool
    detail: str
    after_s: float


def run_checks(addresses: Addresses, within_s: float, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Run the checks of the running components, each again until it passes or time is up."""
    stack = Backends(addresses)
    started = time.monotonic()
    results: dict[Check, Result] = {}
    here = [check for check in checks if all(getattr(addresses, name) for name in check.needs)]
    while True:
        for check in here:
            if check in results and results[check].found:
                continue
            try:
                found, detail = True, check.run(stack)
            except NotYet as missing:
                found, detail = False, str(missing)
            results[check] = Result(check=check, found=found, detail=detail, after_s=time.monotonic() - started)
        waiting = [result for result in results.values() if not result.found]
        if not waiting or time.monotonic() - started > within_s:
            stack.http.close()
            return list(results.values())
        time.sleep(3)


def report_results(results: Sequence[Result], console: Console = out) -> list[str]:
    """Print the table. Returns what is missing, in the order of the checks: the first is usually the cause."""
    table = Table("component", "check", "", "after", "found", title="Smoke test", title_justify="left")
    for result in results:
        mark = "ok" if result.found else "MISSING"
        table.add_row(result.check.component, result.check.what, mark, f"{result.after_s:.0f} s", result.detail)
    console.print(table)
    return [f"{r.check.component}: {r.detail}" for r in results if not r.found]
