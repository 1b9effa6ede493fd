"""The files that GitHub reads are what it expects, and its workflows are safe and run targets that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

BIN = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "github-issue-forms": FORMS,
    "github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "dependabot": [ROOT / ".github" / "dependabot.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}


def checked(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def audited(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "zizmor", "--offline", "--no-progress", "--no-config", folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_schemas(schema: str) -> None:
    assert SCHEMAS[schema]
    done = checked(schema, *SCHEMAS[schema])
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_pass_an_audit() -> None:
    done = audited(ROOT / ".github")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_workflow_is_noticed(tmp_path: Path) -> None:
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    workflow = tmp_path / ".github" / "workflows" / "x.yml"
    text = WORKFLOWS[-1].read_text(encoding="utf-8")
    workflow.write_text(re.sub(r"checkout@\w+", "checkout@v6", text), encoding="utf-8")
    assert "unpinned-uses" in audited(tmp_path).stdout
    workflow.write_text(text.replace("runs-on:", "run-on:"), encoding="utf-8")
    assert checked("github-workflows", workflow).returncode == 1


def test_every_step_of_ours_is_a_make_target() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    runs = [
        step["run"] for path in WORKFLOWS for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        for step in job["steps"] if "run" in step
    ]  # fmt: skip
    named = {run.split()[1] for run in runs if run.startswith("make ")}
    assert {"dist", "docs", "lint", "test"} <= named <= targets


def test_only_the_publisher_may_ask_for_an_identity() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {}
        for name, job in workflow["jobs"].items():
            expected = (
                {"id-token": "write"} if (path.name, name) == ("release.yml", "publish") else {"contents": "read"}
            )
            assert job["permissions"] == expected
