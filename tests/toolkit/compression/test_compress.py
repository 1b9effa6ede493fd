"""A whole search by the real command, killed on its way, and what it leaves behind."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple

import pytest
from transformers import AutoModelForSequenceClassification

from tests.support.command_line import refused, toolkit
from tests.support.data import rows, write_csv
from tests.support.tokenizers import LETTERS
from tests.toolkit.compression.test_answer import KnownBundles
from tests.toolkit.compression.test_search import PROMISING, WHOLE, Known
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.compression import bundles, compress, search, trainings
from toolkit.compression.budget import Cost
from toolkit.config import DistillConfig
from toolkit.distillation.distill import run_distill
from toolkit.errors import GateError

BUDGET = ("--max-latency-ms", "50", "--max-size-mb", "0.035", "--max-drop", "20")


class Run(NamedTuple):
    """A search that was killed and went on."""

    out: Path
    killed_after: list[str]
    trained: list[str]
    result: CompletedProcess[str]
    command: tuple[str | Path, ...]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tiny_teacher: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search that dies when its second training begins, and the same command again."""
    out, trained = tmp_path_factory.mktemp("compress") / "search", list[str]()
    data = shutil.copytree(data_dir, out.with_name("data"))
    write_csv(data / "test.csv", rows(96, seed=3))
    command = ("compress", tiny_teacher, "--task", "auto", "--data", data, *BUDGET, "--out", out)

    def training(config: DistillConfig, answers: Path) -> Bundle:
        if len(trained) == 1 and not killed:
            killed.extend(trained)
            raise KeyboardInterrupt
        assert answers.exists(), "the teacher answers before its first student trains"
        trained.append(config.out)
        return run_distill(config, answers)

    killed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "run_distill", training)
        assert toolkit(*command).returncode == 130
        result = toolkit(*command)
    return Run(out, killed, trained, result, command)


def weights_digest(bundle: Bundle) -> str:
    return bundle.manifest["files"][bundle.weights.name]["sha256"]


def frontier(out: Path) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = json.loads((out / "frontier.json").read_text())["points"]
    return points


@pytest.mark.slow
def test_the_answer_is_within_the_budget(run: Run, tiny_teacher: Path) -> None:
    assert run.result.returncode == 0, run.result.stderr
    bundle, teacher = open_bundle(run.out / "int8"), open_bundle(tiny_teacher)
    assert (bundle.precision, bundle.task.labels) == ("int8", teacher.task.labels)
    assert bundle.weight_bytes <= 0.035e6
    assert bundle.metrics["accuracy"] >= teacher.metrics["accuracy"] - 0.2
    assert f"int8: test accuracy {100 * bundle.metrics['accuracy']:.2f}, the teacher " in run.result.stdout
    assert len(toolkit("predict", run.out / "int8", "a lovely film").stdout.split()) >= 2


@pytest.mark.slow
def test_a_killed_search_pays_for_nothing_twice(run: Run) -> None:
    assert len(run.killed_after) == 1
    assert len(run.trained) == 2, "a short and a whole training of the better start"
    assert set(Counter(run.trained).values()) == {1}


@pytest.mark.slow
def test_a_training_from_the_kept_projection_is_the_one_that_distill_makes(run: Run, tiny_teacher: Path) -> None:
    out, data = run.out.with_name("alone"), run.out.with_name("data")
    command = ("distill", "--teacher", tiny_teacher, "--task", "auto", "--data", data, "--student", "1/24/48/4")
    assert toolkit(*command, "--out", out).returncode == 0
    alone, kept = open_bundle(out), open_bundle(run.out / "1-24-48-4" / "epochs-3-3")
    assert weights_digest(alone) == weights_digest(kept)


@pytest.mark.slow
def test_the_frontier_has_all_that_was_tried_and_the_teacher(run: Run) -> None:
    points = {(point["name"], point["role"]): point for point in frontier(run.out)}
    (chosen,) = [point for point in frontier(run.out) if point["role"] == "chosen"]
    assert ("3/24/48/4", "teacher") in points
    assert {name for name, role in points if role != "teacher"} == {"1/16/48/4", "1/24/48/4"}
    assert chosen["size_mb"] == open_bundle(run.out / "int8").weight_bytes / 1e6
    assert chosen["test"] == 100 * open_bundle(run.out / "int8").metrics["accuracy"]
    assert points["3/24/48/4", "teacher"]["test"] > 90
    assert chosen["latency_ms"] < points["3/24/48/4", "teacher"]["latency_ms"]
    assert f"{chosen['name']} is the answer" in (run.out / "frontier.html").read_text()


@pytest.mark.slow
def test_the_list_is_shown_and_another_point_is_picked_without_paying_again(run: Run) -> None:
    listed = toolkit(*run.command, "--list")
    assert listed.returncode == 0, listed.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in listed.stdout.splitlines() if "│" in line]
    (chosen,) = [row for row in rows if row[2] == "the answer, int8"]
    (start,) = [row[0].split()[0] for row in rows if row[2] == "projected, not trained"]
    assert [row[1] for row in rows if row[2] == "exported, int8"] == [chosen[1]], "it was trained twice"
    shutil.copytree(run.out, out := run.out.with_name("picking"))
    command, trained = [*run.command[:-1], out], list[str]()

    def training(config: DistillConfig, answers: Path) -> Bundle:
        trained.append(str(Path(config.out).relative_to(out)))
        return run_distill(config, answers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "run_distill", training)
        patch.setattr(bundles, "LOST", -100)  # whatever rounding costs, it is too much
        picked = toolkit(*command, "--pick", start)
        assert picked.returncode == 0, picked.stderr
        assert trained == ["1-16-48-4/epochs-3-3", "1-16-48-4/epochs-3-3-rounded"]
        (answer,) = [point for point in frontier(out) if point["role"] == "chosen"]
        assert (answer["name"], answer["training"][:12]) == ("1/16/48/4", "3 + 3 epochs")
        names = ["epochs-3-3-int8", "epochs-3-3-rounded-int8"]
        both = [open_bundle(out / "1-16-48-4" / name) for name in names]
        assert answer["dev"] == pytest.approx(max(search.dev_score(bundle.manifest) for bundle in both))
        assert open_bundle(out / "int8").digest in [bundle.digest for bundle in both]
        assert "there is no such student" in refused(toolkit(*command, "--pick", "99"))
    assert "has no frontier.json" in refused(toolkit(*run.command[:-1], run.out / "other", "--list"))


def lines_until(command: Sequence[str | Path], last: int | None = None) -> tuple[list[str], int]:
    """Run a command in a process of its own, kill it after so many lines, and return its lines and exit code."""
    words = [sys.executable, "-u", "-m", "toolkit", *map(str, command)]
    lines = list[str]()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if len(lines) == last:
                process.kill()
                break
    return lines, process.returncode


def results(out: Path) -> dict[str, tuple[float, str]]:
    """Give the score and the weights of every student of a search, by its folder."""
    bundles = {str(path.parent.relative_to(out)): open_bundle(path.parent) for path in out.glob("*/*/bundle.json")}
    return {name: (search.dev_score(bundle.manifest), weights_digest(bundle)) for name, bundle in bundles.items()}


@pytest.mark.slow
def test_killed_at_three_random_moments_it_ends_with_the_same_students_each_trained_once(
    tiny_teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    command = ("compress", tiny_teacher, "--task", "auto", "--data", data_dir, "--max-latency-ms", "50", "--out")
    whole, code = lines_until([*command, tmp_path / "whole"])
    assert code == 0
    seen = list[str]()
    for moment in random.Random(5).sample(range(len(whole) // 8, len(whole) // 2), 3):
        lines, code = lines_until([*command, tmp_path / "killed"], moment)
        assert code == -signal.SIGKILL
        seen += lines
    lines, code = lines_until([*command, tmp_path / "killed"])
    assert code == 0
    trained = Counter(line.split()[1].split(";")[0] for line in [*seen, *lines] if line.startswith("wrote "))
    assert len(trained) >= 4
    assert set(trained.values()) == {1}
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    first, second = (
        [point["dev"] for point in frontier(tmp_path / name) if point["role"] == "chosen"]
        for name in ("whole", "killed")
    )
    assert first == second


@pytest.fixture(scope="module")
def wide_teacher(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny teacher, in a plain directory, with 3,000 word pieces more, which no text holds."""
    folder = tmp_path_factory.mktemp("wide") / "teacher"
    model = AutoModelForSequenceClassification.from_pretrained(tiny_teacher)
    stored = json.loads((tiny_teacher / "tokenizer.json").read_text())
    pieces = stored["model"]["vocab"]
    more = islice(product(LETTERS, repeat=4), 3000)
    pieces |= {"".join(letters): len(pieces) + i for i, letters in enumerate(more)}
    model.resize_token_embeddings(len(pieces), mean_resizing=False)
    model.save_pretrained(folder)
    shutil.copyfile(tiny_teacher / "tokenizer_config.json", folder / "tokenizer_config.json")
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    return folder


@pytest.mark.slow
def test_a_size_that_needs_fewer_word_pieces_ends_in_a_bundle_that_has_them_and_goes_on(
    wide_teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, text = tmp_path / "search", tmp_path / "more.txt"
    text.write_text("a good film\n" * 20)
    command = ("compress", wide_teacher, "--task", "auto", "--data", data_dir, "--max-size-mb", "0.05", "--out", out)
    refusal = toolkit(*command)
    assert refusal.returncode == 1
    assert "try: --trim-vocabulary FILE" in refusal.stderr
    command = (*command, "--trim-vocabulary", text)
    result = toolkit(*command)
    assert result.returncode == 0, result.stderr
    bundle = open_bundle(out / "int8")
    assert bundle.weight_bytes <= 0.05e6
    kept = bundle.manifest["vocabulary"]["kept"]
    stored = json.loads((out / "int8" / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(stored) == kept == bundle.config["vocab_size"] < 200
    assert bundle.metrics["accuracy"] > 0.7
    assert "positive" in toolkit("predict", out / "int8", "a lovely film").stdout
    (chosen,) = [point for point in frontier(out) if point["role"] == "chosen"]
    assert chosen["words"].endswith(f" bits, {kept} pieces")
    assert f" --trim-vocabulary {text}" in chosen["command"].split(" && ")[-1]
    assert toolkit(*shlex.split(chosen["command"].split(" && ")[-1])[1:]).returncode == 0
    assert open_bundle(chosen["command"].split("--out ")[-1].split()[0]).weight_bytes == bundle.weight_bytes
    monkeypatch.setattr(trainings, "run_distill", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(bundles, "run_export", lambda *_: pytest.fail("exported again"))
    again = toolkit(*command)
    assert again.returncode == 0, again.stderr
    assert open_bundle(out / "int8").weight_bytes == bundle.weight_bytes


def test_a_dry_run_trains_and_writes_nothing(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    command = ("compress", tiny_teacher, "--task", "auto", "--data", data_dir, "--max-latency-ms", "50")
    result = toolkit(*command, "--out", tmp_path / "search", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "6 of 6 shapes to try" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "cost", "needed"),
    [
        ("--max-latency-ms", r"the nearest, 1/16/48/4, takes \S+ ms a text, \S+ MB", "at least"),
        ("--max-size-mb", r"the smallest, 1/16/48/4, takes \S+ MB without its graph", "more than"),
    ],
)
def test_a_budget_that_cannot_be_met_is_known_before_any_training(
    tiny_teacher: Path, data_dir: Path, tmp_path: Path, option: str, cost: str, needed: str
) -> None:
    command = ("compress", tiny_teacher, "--task", "auto", "--data", data_dir, option, "0.000001")
    result = toolkit(*command, "--out", tmp_path / "search")
    assert result.returncode == 1
    assert re.search(rf"{cost}\n", result.stderr)
    assert f"expected: {needed} {option} 0.0" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picked_student_that_cannot_be_exported_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = PROMISING[:2]
    known = KnownBundles(Known(tmp_path, {}), {(first, WHOLE): Cost(0.9, 1.0, 1.0)})
    known.add(first, WHOLE)
    monkeypatch.setattr(compress, "Bundles", lambda *_: known)
    with pytest.raises(GateError, match=f"{second} cannot be exported\n{second}, whole: loses 3 points") as caught:
        compress._pick(known.search, known.plan, second)
    assert caught.value.fix == "another --pick"


def test_a_folder_of_something_else_is_refused(tiny_teacher: Path, data_dir: Path) -> None:
    command = ("compress", tiny_teacher, "--task", "auto", "--data", data_dir, *BUDGET, "--out", data_dir)
    assert "is not a search" in refused(toolkit(*command))
