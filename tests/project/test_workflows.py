"""The files for a public host: workflows that run what the Makefile has, templates that can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.project.pages import ROOT

FOLDER = ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_the_makefile_has(path: Path) -> None:
    """Every `make TARGET` is a target, every job has a limit of time or waits for one, and nothing may write."""
    text = path.read_text(encoding="utf-8")
    read = yaml.safe_load(text)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make (test[\w-]*|docs-tables)", text))
    for job in read["jobs"].values():
        targets |= set(job.get("strategy", {}).get("matrix", {}).get("target", ()))
        assert "timeout-minutes" in job or "needs" in job
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)
    assert read["permissions"] == {"contents": "read"}
    assert "secrets." not in text


def test_the_four_are_there_and_releases_store_no_token() -> None:
    """test, integrations, docs, release; only the last may ask for an identity, in an environment of its own."""
    assert [path.stem for path in WORKFLOWS] == ["docs", "integrations", "release", "test"]
    publish = yaml.safe_load((FOLDER / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"} and publish["environment"] == "pypi"
    for path in (FOLDER / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path.name
