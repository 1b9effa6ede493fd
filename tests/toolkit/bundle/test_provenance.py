"""The origins that a manifest records, and steps whose result is reused only where it would come out the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.bundle.format import Bundle, open_bundle
from toolkit.bundle.provenance import as_stored, check_output, origin, run_or_reuse, was_made_with
from toolkit.config import DistillConfig, ExportConfig, FinetuneConfig
from toolkit.config.base import Config
from toolkit.errors import ToolkitError


def test_a_model_from_the_hub_is_known_by_its_commit() -> None:
    assert origin("bert-base-uncased", "86b5e0934494bd15") == {
        "kind": "model", "name": "bert-base-uncased", "revision": "86b5e0934494bd15",
    }  # fmt: skip


def test_a_damaged_bundle_is_no_origin(tiny_student: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_student, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ToolkitError, match=r"tokenizer\.json is damaged"):
        origin(str(copy))


def test_a_step_is_kept_only_if_it_would_be_made_the_same(tiny_student: Path) -> None:
    bundle = open_bundle(tiny_student)
    config = ExportConfig("x", str(tiny_student), trim_vocabulary=("a.txt",))
    bundle.manifest["config"] = as_stored(config)
    assert bundle.manifest["config"]["trim_vocabulary"] == ["a.txt"]
    assert was_made_with(bundle, config, None)
    assert not was_made_with(bundle, replace(config, max_drop=2.0), None)
    assert not was_made_with(bundle, config, bundle), "its parent is not itself"
    bundle.manifest["parent"] = bundle.digest
    assert was_made_with(bundle, config, bundle)
    assert not was_made_with(bundle, config, None)
    del bundle.manifest["split"]
    assert not was_made_with(bundle, config, bundle), "its steps were chosen by the rows that score it"


@pytest.mark.parametrize(
    ("config", "decided", "chosen"),
    [
        (FinetuneConfig("m", "auto", "o", data="d"), {"epochs": 20, "lr": 1e-4, "patience": 3}, {"max_rows": 100}),
        (
            DistillConfig("t", "auto", "o", data="d", init="start"),
            {"intermediate_epochs": 10, "intermediate_lr": 5e-5}, {"patience": 3},
        ),
        (DistillConfig("t", "auto", "o", data="d"), {}, {"unlabelled": "more.txt"}),
    ],
)  # fmt: skip
def test_an_option_that_is_not_given_fits_what_data_and_models_decided_and_nothing_that_a_user_chose(
    tiny_student: Path, config: Config, decided: dict[str, object], chosen: dict[str, object]
) -> None:
    bundle = open_bundle(tiny_student)
    stored = as_stored(config.resolved()) | decided
    bundle.manifest.update({"config": stored, "parent": None})
    assert was_made_with(bundle, config, None)
    bundle.manifest["config"] = stored | chosen
    assert not was_made_with(bundle, config, None)


def test_an_option_that_a_stored_bundle_does_not_know_had_its_default(tiny_student: Path) -> None:
    bundle = open_bundle(tiny_student)
    config = ExportConfig("x", str(tiny_student))
    bundle.manifest["config"] = {name: value for name, value in as_stored(config).items() if name != "layout"}
    assert was_made_with(bundle, config, None)
    assert not was_made_with(bundle, replace(config, layout="triton"), None)


def test_a_bundle_is_overwritten_only_where_the_user_says_so(tiny_student: Path, tmp_path: Path) -> None:
    out = shutil.copytree(tiny_student, tmp_path / "out")
    with pytest.raises(ToolkitError, match="out is there already, made by other options") as caught:
        check_output(ExportConfig("x", str(out)))
    assert caught.value.fix == "--overwrite, or another --out"
    check_output(ExportConfig("x", str(out), overwrite=True))
    check_output(ExportConfig("x", str(tmp_path / "new")))
    (out / "tokenizer.json").write_text("{}")
    with pytest.raises(ToolkitError, match="is there already, and damaged"):
        check_output(ExportConfig("x", str(out)))


def test_overwriting_is_not_recorded() -> None:
    assert "overwrite" not in ExportConfig("x", "out", overwrite=True).to_dict()


def test_a_step_that_is_not_there_is_run(
    tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run(config: ExportConfig) -> Bundle:
        ran.append(config)
        return open_bundle(tiny_student)

    assert run_or_reuse("t", ExportConfig("x", str(tmp_path / "none")), run).path == tiny_student
    assert run_or_reuse("t", ExportConfig("x", str(tiny_student)), run).path == tiny_student
    assert len(ran) == 2, "the second one was there, made by another configuration"
    replaced = (
        f"{tiny_student} was made by other options, from another bundle, or before today's splits: it is replaced"
    )
    assert capsys.readouterr().out == f"== t\n== t\n{replaced}\n"
    assert [config.overwrite for config in ran] == [False, True]


def test_a_result_that_is_there_is_reused(capsys: pytest.CaptureFixture[str]) -> None:
    def run(config: ExportConfig) -> str:
        raise AssertionError(config)

    def read(config: ExportConfig, parent: Bundle | None) -> str:
        return f"{config.out}, {parent}"

    assert run_or_reuse("t", ExportConfig("x", "out"), run, read=read) == "out, None"
    assert capsys.readouterr().out == "== t: out is there already\n"
