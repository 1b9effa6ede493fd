"""The demo: what it keeps, what it makes anew; and, slowly, the whole of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.bundle.format import open_bundle
from toolkit.bundle.provenance import _made_by, run_or_reuse
from toolkit.cli.demo import Plan
from toolkit.config import DemoConfig, ExportConfig


def test_each_step_reads_what_the_one_before_wrote() -> None:
    for quick in (False, True):
        plan = Plan.of(DemoConfig("somewhere", quick=quick))
        assert plan.distill.teacher == plan.finetune.out == "somewhere/teacher"
        assert plan.export.source == plan.distill.out == "somewhere/student"
        assert plan.bench.bundles == (plan.export.out,) == ("somewhere/int8",)
    assert Plan.of(DemoConfig()).export.max_drop == ExportConfig.max_drop


def test_a_step_is_kept_only_if_it_would_be_made_the_same(tiny_student: Path) -> None:
    """`tiny_onnx` and `tiny_student` are sealed bundles; a stored configuration decides."""
    bundle = open_bundle(tiny_student)
    wanted = ExportConfig("x", str(tiny_student))
    bundle.manifest["config"] = json.loads(json.dumps(wanted.to_dict()))  # as it is read, tuples are lists
    assert _made_by(bundle, wanted, None)
    assert not _made_by(bundle, ExportConfig("x", str(tiny_student), max_drop=2.0), None)
    assert not _made_by(bundle, wanted, bundle)  # its parent is not itself
    bundle.manifest["parent"] = bundle.digest
    assert _made_by(bundle, wanted, bundle)


def test_a_step_that_is_not_there_is_run(tiny_student: Path, tmp_path: Path) -> None:
    ran = []

    def run(config: ExportConfig) -> object:
        ran.append(config)
        return open_bundle(tiny_student)

    assert run_or_reuse("t", ExportConfig("x", str(tmp_path / "none")), run).path == tiny_student  # type: ignore[arg-type]
    assert run_or_reuse("t", ExportConfig("x", str(tiny_student)), run).path == tiny_student  # type: ignore[arg-type]
    assert len(ran) == 2  # the second one was there, made by another configuration


@pytest.mark.slow
def test_the_quick_demo_and_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit", "demo", "--quick", "--out", str(tmp_path / "demo")]
    environment = {**os.environ, "COLUMNS": "160"}
    first = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)
    assert "Traceback" not in first.stderr
    assert first.returncode in (0, 1), first.stderr  # 1: this machine is too slow or too busy for the speed claim
    for part in ("teacher, PyTorch", "student, int8 ONNX", '"label": "positive"', "smaller than BERT-base"):
        assert part in first.stdout
    metrics = [open_bundle(tmp_path / "demo" / name).manifest["metrics"] for name in ("teacher", "student", "int8")]
    assert all(metric["accuracy"] > 0.7 for metric in metrics)
    report = json.loads((tmp_path / "demo" / "bench" / "report.json").read_text())
    assert {claim["claim"].split(",")[0] for claim in report["claims"]} == {"size", "speed"}
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert len(re.findall("is there already", again.stdout)) == 4
    assert again.returncode == first.returncode
