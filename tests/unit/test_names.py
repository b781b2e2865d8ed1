"""Public names: what differs from the last release is in the changelog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from demo import ROOT
from servescope.cli import commands
from servescope.pages.names import names, render
from servescope.settings import Settings

# Written by `python -m tests.unit.test_names` when a release is cut.
RELEASED = ROOT / "tests/fixtures/public-names.json"

Names = Mapping[str, Sequence[str]]


def unmentioned(released: Names, current: Names, changelog: str) -> list[str]:
    """Names added or removed since the release that are missing, as code, in the changelog's first section."""
    _, _, unreleased = changelog.partition("## [Unreleased]")
    unreleased, _, _ = unreleased.partition("\n## [")
    kinds = {*released, *current}
    changed = sorted({name for kind in kinds for name in {*released.get(kind, ())} ^ {*current.get(kind, ())}})
    return [name for name in changed if f"`{name}`" not in unreleased]


def test_what_came_or_went_since_the_release_is_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert unmentioned(json.loads(RELEASED.read_text(encoding="utf-8")), names(Settings(), commands()), changelog) == []


def test_a_renamed_alert_must_be_named():
    released, current = {"Alerts": ["RayServeSlow", "RayServeKept"]}, {"Alerts": ["RayServeLate", "RayServeKept"]}
    changelog = "## [Unreleased]\n\n{}\n\n## [0.1.0]\n\n- `RayServeSlow`\n"
    assert unmentioned(released, current, changelog.format("")) == ["RayServeLate", "RayServeSlow"]
    both = "- `RayServeSlow` is called `RayServeLate`."
    assert unmentioned(released, current, changelog.format(both)) == []


def test_every_kind_has_names_and_is_listed_on_the_page():
    found, page = names(Settings(), commands()), render(Settings(), commands())
    assert {kind: bool(listed) for kind, listed in found.items()} == dict.fromkeys(found, True)
    assert [name for name in found["Alerts"] + found["Settings"] if f"- `{name}`\n" not in page] == []


if __name__ == "__main__":
    RELEASED.write_text(json.dumps(names(Settings(), commands()), indent=1) + "\n", encoding="utf-8")
