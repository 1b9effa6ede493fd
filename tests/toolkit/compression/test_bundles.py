"""What becomes of a trained student; trainings and exports have known results here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.compression.test_search import PROMISING, WHOLE, Known, plan
from toolkit.compression import bundles as making
from toolkit.compression.budget import Cost
from toolkit.compression.bundles import LOST, Bundles, Finished, export_of, under_rounding
from toolkit.compression.trainings import Epochs
from toolkit.compression.words import Words
from toolkit.config import CompressConfig, DistillConfig, ExportConfig
from toolkit.errors import GateError
from toolkit.models.student import Shape

FIRST = PROMISING[0]
CONFIG = CompressConfig("teacher", "auto", "out", data="d", text_column="t", max_size_mb=1.0, max_drop=3.0)


class Exported(Bundles):
    """Bundles whose scores are known by the trainings of their students; None cannot be exported."""

    scores: dict[int, float | None]

    def _exported(self, shape: Shape, epochs: Epochs, *trainings: DistillConfig) -> Finished | None:
        dev = self.scores[len(trainings)]
        return None if dev is None else Finished(shape, epochs, None, dev, Cost(1.0, 1.0, 90 - dev), trainings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plain", "rounded", "answer"),
    [
        (85.0 - LOST, None, 85.0 - LOST),  # little is lost: no second training
        (84.0, 84.5, 84.5),
        (84.0, 83.0, 84.0),
        (None, 83.0, 83.0),
        (None, None, None),
    ],
)
def test_a_student_that_rounding_costs_much_trains_on_in_its_arithmetic_and_the_better_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: float | None, rounded: float | None, answer: float | None
) -> None:
    search, trained = Known(tmp_path, {FIRST: 85.0}), list[DistillConfig]()
    monkeypatch.setattr(search, "train_on", lambda _title, options, *_: trained.append(options))
    manifest = search.train(FIRST, WHOLE).manifest
    monkeypatch.setattr(making, "open_bundle", lambda _: type("Opened", (), {"manifest": manifest}))
    made: Any = Exported(search, plan())
    made.scores = {1: plain, 2: rounded}
    made.finish(FIRST, WHOLE)
    assert [options.quantization_aware for options in trained] == [True] * (plain != 85.0 - LOST)
    student = made.finished.get((FIRST, WHOLE))
    assert (student and student.dev) == answer
    if trained:
        assert trained[0].init == search.training_of(FIRST, WHOLE).out
        assert (trained[0].intermediate_epochs, trained[0].prediction_epochs) == (0, 1)
        trained[0].check()


def test_without_time_rounding_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Known(tmp_path, {FIRST: 85.0})
    monkeypatch.setattr(search, "train_on", lambda *_: pytest.fail("trained"))
    manifest = search.train(FIRST, WHOLE).manifest
    monkeypatch.setattr(making, "open_bundle", lambda _: type("Opened", (), {"manifest": manifest}))
    search._earlier = 1e9
    made: Any = Exported(search, plan())
    made.scores = {1: 70.0}
    made.finish(FIRST, WHOLE)
    assert made.finished[FIRST, WHOLE].dev == 70.0


def test_a_student_that_was_exported_is_known_to_the_next_command(tmp_path: Path) -> None:
    search = Known(tmp_path, {FIRST: 85.0})
    Exported.scores = {1: 84.0}
    Exported(search, plan()).add(FIRST, WHOLE)
    assert Exported(search, plan()).finished[FIRST, WHOLE].dev == 84.0
    assert search.trained == [(FIRST, WHOLE), (FIRST, WHOLE)], "its folder is gone"


def test_an_export_may_lose_what_the_budget_allows_and_has_the_bits_that_its_size_needs() -> None:
    export = export_of(CONFIG, "out/4-32-64-4/epochs-3-3", Words(4))
    export.check()
    assert (export.source, export.out) == ("out/4-32-64-4/epochs-3-3", "out/4-32-64-4/epochs-3-3-int8")
    assert (export.data, export.text_column, export.max_drop, export.embedding_bits) == ("d", "t", 3.0, 4)
    assert export_of(replace(CONFIG, max_drop=None), "s", Words(8)).max_drop == ExportConfig.max_drop
    assert export_of(replace(CONFIG, max_drop=0.0), "s", Words(8)).max_drop == ExportConfig.max_drop


def test_an_export_keeps_the_pieces_that_its_size_lets_it_keep_and_all_where_it_needs_no_fewer() -> None:
    config = replace(CONFIG, trim_vocabulary=("more.txt",))
    exports = [export_of(config, "s", words) for words in (Words(2), Words(2, 900), Words(2, 800, bounded=True))]
    assert [(export.trim_vocabulary, export.max_pieces) for export in exports] == [
        ((), None), (("more.txt",), None), (("more.txt",), 800)
    ]  # fmt: skip


def test_a_training_under_rounding_goes_on_from_the_student() -> None:
    options = under_rounding(DistillConfig("teacher", "auto", "o/student", data="d", student="2/48/192/12"))
    assert (options.init, options.out, options.student) == ("o/student", "o/student-rounded", "2/48/192/12")


def test_a_training_under_rounding_is_known_to_the_next_command_though_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, trained = Known(tmp_path, {FIRST: 85.0}), list[str]()

    def train_on(_title: str, options: DistillConfig, *_: object) -> None:
        trained.append(options.out)
        Path(options.out).mkdir(parents=True)
        (Path(options.out) / "bundle.json").touch()

    monkeypatch.setattr(search, "train_on", train_on)
    manifest = search.train(FIRST, WHOLE).manifest
    monkeypatch.setattr(making, "open_bundle", lambda _: type("Opened", (), {"manifest": manifest}))
    monkeypatch.setattr(Exported, "scores", {1: 84.0, 2: 84.4}, raising=False)
    Exported(search, plan()).finish(FIRST, WHOLE)
    search._earlier = 1e9
    again = Exported(search, plan())
    assert again.finished[FIRST, WHOLE].dev == 84.4
    again.finish(FIRST, WHOLE)
    assert (again.finished[FIRST, WHOLE].dev, len(trained)) == (84.4, 1)


def test_what_cannot_be_exported_is_tried_once_and_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search, tried = Known(tmp_path, {FIRST: 85.0}), list[str]()

    def export(_title: str, options: ExportConfig, *_: object) -> None:
        tried.append(options.source)
        raise GateError("loses 3 points")

    monkeypatch.setattr(making, "run_or_reuse", export)
    monkeypatch.setattr(making, "open_bundle", lambda _: None)
    made = Bundles(search, plan())
    for _ in range(2):
        made.add(FIRST, WHOLE)
    assert made.missed == Bundles(search, plan()).missed == [f"{FIRST}, 3 + 3 epochs: loses 3 points"]
    assert len(tried) == 1
