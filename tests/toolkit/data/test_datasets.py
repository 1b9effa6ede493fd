"""Rows come in as the files mean them: GLUE's official quirks, anyone's own folder, and faults by line and column."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split, load_test, resolve_task
from toolkit.data.sources import WHOLE
from toolkit.errors import ToolkitError
from toolkit.tasks import Task, get_task


def write(folder: Path, name: str, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


# The official files


def test_cola_has_no_header_and_four_columns(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", 'gj04\t1\t\tOur friends won\'t buy "this".\ngj04\t0\t*\tThey drank the pub.\n')
    split = load_split(get_task("cola"), "train", tmp_path)
    assert split.texts == ['Our friends won\'t buy "this".', "They drank the pub."]
    assert split.labels.tolist() == [1, 0]
    assert split.pairs is None


def test_mrpc_has_a_byte_order_mark_and_quotes_that_are_characters(tmp_path: Path) -> None:
    rows = (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
        '1\t702876\t702977\tHe said " yes .\tHe said yes .\r\n'
        '0\t210\t211\t"Unbalanced\tIt is "fine"\r\n'
    )
    split = load_split(get_task("mrpc"), "dev", write(tmp_path, "dev.tsv", rows))
    assert split.texts == ['He said " yes .', '"Unbalanced']
    assert split.pairs == ["He said yes .", 'It is "fine"']
    assert split.labels.tolist() == [1, 0]


def test_rte_and_qnli_name_their_labels(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta b\tc\tnot_entailment\n1\td\te\tentailment\n")
    split = load_split(get_task("rte"), "train", tmp_path)
    assert (split.texts, split.pairs, split.labels.tolist()) == (["a b", "d"], ["c", "e"], [1, 0])


def test_stsb_scores_are_numbers(tmp_path: Path) -> None:
    header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    write(tmp_path, "dev.tsv", header + "0\tmain\tMSR\t2012\t1\tnone\tnone\tA man.\tA boy.\t3.750\n")
    split = load_split(get_task("stsb"), "dev", tmp_path)
    assert split.labels.dtype == np.float64
    assert split.labels.tolist() == [3.75]


def test_sst2_qqp_and_mnli_find_their_columns(tmp_path: Path) -> None:
    write(tmp_path / "sst2", "train.tsv", "sentence\tlabel\nhide new secretions \t0\n")
    assert load_split(get_task("sst2"), "train", tmp_path / "sst2").texts == ["hide new secretions "]
    write(tmp_path / "qqp", "train.tsv", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tHow?\t1\n")
    assert load_split(get_task("qqp"), "train", tmp_path / "qqp").pairs == ["How?"]
    mnli = "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tp\th\tneutral\tcontradiction\n"
    write(tmp_path / "mnli", "dev_matched.tsv", mnli)
    write(tmp_path / "mnli", "dev_mismatched.tsv", mnli.replace("contradiction", "entailment"))
    assert load_split(get_task("mnli"), "dev", tmp_path / "mnli").labels.tolist() == [2]
    assert load_split(get_task("mnli"), "dev_mismatched", tmp_path / "mnli").labels.tolist() == [0]


# Anyone's own folder


def save(folder: Path, suffix: str, table: list[dict[str, object]]) -> Path:
    path = folder / f"train{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(table), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]), delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(table)
    return folder


def auto(folder: Path) -> tuple[Task, Split]:
    task = resolve_task("auto", folder)
    return task, load_split(task, "train", folder)


EVERY = pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])


@EVERY
def test_classes_are_sorted_names(tmp_path: Path, suffix: str) -> None:
    table = [{"text": "one, a", "label": "spam"}, {"text": "zwei ß", "label": "ham"}, {"text": "3", "label": "spam"}]
    task, split = auto(save(tmp_path, suffix, table))
    assert (task.kind, task.labels, task.metrics) == ("classification", ("ham", "spam"), ("accuracy", "f1"))
    assert split.texts == ["one, a", "zwei ß", "3"]
    assert split.labels.tolist() == [1, 0, 1]


@EVERY
def test_classes_given_as_numbers_sort_as_numbers(tmp_path: Path, suffix: str) -> None:
    table = [{"text": f"t{i}", "label": label} for i, label in enumerate([10, 2, 1, 10])]
    task, split = auto(save(tmp_path, suffix, table))
    assert task.labels == ("1", "2", "10")
    assert split.labels.tolist() == [2, 1, 0, 2]


@EVERY
def test_fractions_make_a_regression(tmp_path: Path, suffix: str) -> None:
    task, split = auto(save(tmp_path, suffix, [{"text": "a", "label": 1.5}, {"text": "b", "label": -2.0}]))
    assert (task.kind, task.labels, task.metric) == ("regression", ("score",), "spearman")
    assert split.labels.tolist() == [1.5, -2.0]


@EVERY
def test_pairs(tmp_path: Path, suffix: str) -> None:
    table = [{"text": "a", "text_pair": "b", "label": "x"}, {"text": "c", "text_pair": "d", "label": "y"}]
    task, split = auto(save(tmp_path, suffix, table))
    assert task.pair_column == "text_pair"
    assert split.pairs == ["b", "d"]
    kept = Task.from_dict(task.to_dict(), task.max_length)  # as a bundle keeps it
    assert load_split(kept, "train", tmp_path).pairs == ["b", "d"]


@EVERY
def test_a_single_text_task_from_a_bundle_reads_its_files_again(tmp_path: Path, suffix: str) -> None:
    task, split = auto(save(tmp_path, suffix, [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]))
    kept = Task.from_dict(task.to_dict(), task.max_length)
    assert load_split(kept, "train", tmp_path).digest == split.digest


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_of_labels_make_a_multi_label_task(tmp_path: Path, suffix: str) -> None:
    table = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": ["y"]}]
    task, split = auto(save(tmp_path, suffix, table))
    assert (task.kind, task.labels) == ("multi_label", ("x", "y"))
    assert split.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_many_whole_numbers_are_a_quantity_and_few_are_classes(tmp_path: Path) -> None:
    few = [{"text": f"t{i}", "label": i % 50} for i in range(100)]
    many = [{"text": f"t{i}", "label": i % 51} for i in range(100)]
    assert auto(save(tmp_path, ".csv", few))[0].kind == "classification"
    assert auto(save(tmp_path, ".csv", many))[0].kind == "regression"


@pytest.mark.parametrize("missing", ["", "nan", "NaN"])
def test_one_missing_number_does_not_turn_a_regression_into_classes(tmp_path: Path, missing: str) -> None:
    write(tmp_path, "train.csv", f"text,label\na,0.25\nb,{missing}\nc,0.75\n")
    assert resolve_task("auto", tmp_path).kind == "regression"
    with pytest.raises(ToolkitError, match=f"line 3, column 'label': '{missing}', expected a number"):
        auto(tmp_path)


def test_a_label_that_is_nan_is_no_class(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train.jsonl",
        '{"text": "a", "label": "x"}\n{"text": "b", "label": NaN}\n{"text": "c", "label": "y"}\n',
    )
    assert resolve_task("auto", tmp_path).labels == ("x", "y")
    with pytest.raises(ToolkitError, match="line 2, column 'label': nan, expected one of x, y"):
        auto(tmp_path)


def test_a_label_is_one_class_whatever_type_the_reader_gives_it(tmp_path: Path) -> None:
    labels = [1, 1.0, "1", True, "0"]
    task, split = auto(save(tmp_path, ".jsonl", [{"text": "a", "label": label} for label in labels]))
    assert task.labels == ("0", "1")
    assert split.labels.tolist() == [1, 1, 1, 1, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip),
            st.sampled_from("xy"),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_text_survives_every_format(tmp_path: Path, table: list[tuple[str, str]]) -> None:
    rows: list[dict[str, object]] = [{"text": text, "label": label} for text, label in [*table, ("a", "x"), ("b", "y")]]
    for suffix in (".csv", ".jsonl", ".parquet"):  # TSV as GLUE has it cannot hold tabs and line ends
        (tmp_path / "only").mkdir(exist_ok=True)
        for old in (tmp_path / "only").iterdir():
            old.unlink()
        assert auto(save(tmp_path / "only", suffix, rows))[1].texts == [row["text"] for row in rows]


# Faults


def test_bad_rows_are_listed_by_line_and_column_and_none_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", "sentence\tlabel\ngood\t1\n\t0\nbad\t7\nshort\n")
    with pytest.raises(ToolkitError) as caught:
        load_split(get_task("sst2"), "train", tmp_path)
    assert caught.value.problem.splitlines() == [
        f"{tmp_path / 'train.tsv'}: 3 problems",
        "  - line 3, column 'sentence': '', expected text",
        "  - lines 4, 5, column 'label': '7', None, expected one of negative, positive",
    ]


def test_rows_with_more_cells_than_columns_are_faults(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "label,text\npos,Well, I liked it a lot\nneg,dull\npos,fine\n")
    with pytest.raises(ToolkitError, match=r"line 2: 1 more cells than columns: ' I liked it a lot'"):
        auto(tmp_path)
    write(tmp_path, "train.csv", "text,label\nWell, I liked it,pos\ndull,neg\nfine,pos\n")
    assert resolve_task("auto", tmp_path).labels == ("neg", "pos"), "a piece of a text is no class"
    write(tmp_path / "cola", "train.tsv", "a\t1\t\tOne.\nb\t0\t\tTwo.\t and more\n")
    with pytest.raises(ToolkitError, match="line 2: 1 more cells"):
        load_split(get_task("cola"), "train", tmp_path / "cola")


QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n" + "".join(
    f"{n}\t1\t2\t{row}\n" for n, row in enumerate(["Why?\tHow?\t1", "What?\t\t0", "\t\t0", "Who?", "When?\tNow?\t0"])
)


def test_qqp_s_rows_with_empty_questions_are_refused_with_their_lines(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", QQP)
    with pytest.raises(ToolkitError, match="5 problems") as caught:
        load_split(get_task("qqp"), "train", tmp_path)
    assert caught.value.problem.splitlines()[1:] == [
        "  - lines 3, 4, 5, column 'question2': '', None, expected text",
        "  - line 4, column 'question1': '', expected text",
        "  - line 5, column 'is_duplicate': None, expected one of not_duplicate, duplicate",
    ]
    assert "--skip-bad-rows" in caught.value.fix


def test_bad_rows_are_left_out_and_counted_where_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "train.tsv", QQP)
    split = load_split(get_task("qqp"), "train", tmp_path, DataOptions(skip_bad_rows=True))
    assert (split.texts, split.pairs, split.labels.tolist()) == (["Why?", "When?"], ["How?", "Now?"], [1, 0])
    assert capsys.readouterr().out.startswith(
        f"{tmp_path / 'train.tsv'}: left out 3 of 5 rows: lines 3, 4, 5, column 'question2': '', None, expected text; "
    )
    write(tmp_path, "dev.tsv", QQP.replace("How?", "").replace("Now?", ""))
    with pytest.raises(ToolkitError, match="7 problems"):
        load_split(get_task("qqp"), "dev", tmp_path, DataOptions(skip_bad_rows=True))


def test_faults_that_are_alike_are_one_line(tmp_path: Path) -> None:
    write(tmp_path, "dev.tsv", "sentence\tlabel\n" + "x\tmaybe\n" * 33)
    with pytest.raises(ToolkitError) as caught:
        load_split(get_task("sst2"), "dev", tmp_path)
    assert caught.value.problem.splitlines() == [
        f"{tmp_path / 'dev.tsv'}: 33 problems",
        "  - lines 2, 3, 4, 5, 6 and 28 more, column 'label': 'maybe', expected one of negative, positive",
    ]


def test_lines_are_those_of_the_file_even_after_a_quoted_line_end(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", 'text,label\n"two\nlines",x\n"  ",y\n')
    with pytest.raises(ToolkitError, match="line 4, column 'text'"):
        auto(tmp_path)


def test_a_table_task_takes_numbers_for_names_and_a_folder_s_own_does_not(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", "sentence\tlabel\na\tpositive\nb\t0\n")
    assert load_split(get_task("sst2"), "train", tmp_path).labels.tolist() == [1, 0]
    own = Task("auto", ("no", "yes"))
    write(tmp_path / "own", "train.csv", "text,label\na,yes\nb,0\n")
    with pytest.raises(ToolkitError, match="line 3, column 'label': '0', expected one of no, yes"):
        load_split(own, "train", tmp_path / "own")


@pytest.mark.parametrize("label", ["-1", "2", "²", "1.5", "nan", "Positive"])
def test_labels_out_of_range_are_faults(tmp_path: Path, label: str) -> None:
    write(tmp_path, "train.tsv", f"sentence\tlabel\na\t{label}\n")
    with pytest.raises(ToolkitError, match="line 2, column 'label'"):
        load_split(get_task("sst2"), "train", tmp_path)


@pytest.mark.parametrize("score", ["", "nan", "inf", "high"])
def test_scores_that_are_no_numbers_are_faults(tmp_path: Path, score: str) -> None:
    write(tmp_path, "train.tsv", f"sentence1\tsentence2\tscore\na\tb\t{score}\n")
    with pytest.raises(ToolkitError, match=r"line 2, column 'score'.*expected a number"):
        load_split(get_task("stsb"), "train", tmp_path)


def test_unknown_and_missing_labels_of_a_multi_label_row_are_faults(tmp_path: Path) -> None:
    task = Task("auto", ("x", "y"), kind="multi_label", metrics=("f1",))
    rows = [{"text": "a", "label": ["x"]}, {"text": "b", "label": ["x", "z"]}, {"text": "c", "label": None}]
    with pytest.raises(ToolkitError) as caught:
        load_split(task, "train", save(tmp_path, ".jsonl", rows))
    assert "lines 2, 3, column 'label': ['z'], ['None'], expected a list out of x, y" in caught.value.problem


def test_a_number_among_lists_of_labels_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    save(tmp_path, ".jsonl", [{"text": "a", "label": ["x"]}, {"text": "b", "label": 3}])
    with pytest.raises(ToolkitError, match="line 2, column 'label'"):
        auto(tmp_path)


def test_texts_that_are_no_text_are_faults(tmp_path: Path) -> None:
    lines = ['{"text": 5, "label": "x"}', '{"text": "\\ud83d", "label": "y"}', '{"label": "x"}']
    with pytest.raises(ToolkitError) as caught:
        auto(write(tmp_path, "train.jsonl", "\n".join(lines)))
    assert "lines 1, 2, 3, column 'text': 5, '\\ud83d', None, expected text" in caught.value.problem


def test_many_classes_are_not_all_listed(tmp_path: Path) -> None:
    task = Task("auto", tuple(f"c{i}" for i in range(77)))
    with pytest.raises(ToolkitError, match="c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 67 more"):
        load_split(task, "train", write(tmp_path, "train.csv", "text,label\na,c99\n"))


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", b"text,label\n" + b"x" * 9000 + b",a\nna\xefve,b\n")
    with pytest.raises(ToolkitError, match="is not UTF-8: line 3 holds the byte 0xef") as caught:
        auto(tmp_path)
    assert "iconv" in caught.value.fix


@pytest.mark.parametrize("content", ["", "text,label\n"])
def test_an_empty_file_has_no_rows(tmp_path: Path, content: str) -> None:
    write(tmp_path, "train.csv", content)
    with pytest.raises(ToolkitError, match=r"train\.csv has no rows"):
        resolve_task("auto", tmp_path)
    with pytest.raises(ToolkitError, match=r"train\.csv has no rows"):
        load_split(Task("auto", ("a", "b")), "train", tmp_path)


def test_a_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "words,label\na,1\n")
    with pytest.raises(ToolkitError, match="has no column 'text'; it has 'words', 'label'") as caught:
        resolve_task("auto", tmp_path)
    assert caught.value.expected == "columns text, label"


def test_a_short_first_row_is_a_bad_row_and_no_missing_column(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "text,label\nalone\na,x\nb,y\n")
    with pytest.raises(ToolkitError, match="line 2, column 'label': None"):
        auto(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"text": "a"', "line 1: not JSON"), ('{"text": "a", "label": 1}\n[1]', "line 2: list")],
)
def test_bad_json_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ToolkitError, match=message):
        auto(write(tmp_path, "train.jsonl", content))


def test_bad_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"train\.parquet is not Parquet"):
        auto(write(tmp_path, "train.parquet", b"PAR1 not really PAR1"))


def test_one_class_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="all labels in column 'label' are 'x'"):
        auto(write(tmp_path, "train.csv", "text,label\na,x\nb,x\nc,\n"))
    with pytest.raises(ToolkitError, match="no label in column 'label'"):
        auto(write(tmp_path, "train.csv", "text,label\na,\nb,\n"))


def test_missing_folders_and_files_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="no such file or directory"):
        load_split(get_task("sst2"), "train", tmp_path / "nowhere")
    write(tmp_path, "test.tsv", "x")
    with pytest.raises(ToolkitError, match=r"has no train file; it holds test\.tsv"):
        load_split(get_task("sst2"), "train", tmp_path)
    with pytest.raises(ToolkitError, match="is a folder") as caught:
        load_split(get_task("sst2"), WHOLE, tmp_path)
    assert caught.value.expected == "one file of labelled rows"
    with pytest.raises(ToolkitError, match="auto needs --data"):
        resolve_task("auto")


def test_validation_is_another_name_for_dev(tmp_path: Path) -> None:
    write(tmp_path, "validation.tsv", "sentence\tlabel\na\t1\n")
    assert len(load_split(get_task("sst2"), "dev", tmp_path)) == 1


@pytest.mark.parametrize(("first", "second"), [("dev.csv", "dev.jsonl"), ("dev.tsv", "validation.tsv")])
def test_two_files_of_a_split_side_by_side_are_refused(tmp_path: Path, first: str, second: str) -> None:
    write(tmp_path, first, "text,label\na,x\n")
    write(tmp_path, second, "text,label\na,x\n")
    with pytest.raises(ToolkitError, match=f"holds {first} and {second}"):
        load_split(Task("auto", ("x", "y")), "dev", tmp_path)


@pytest.mark.parametrize("name", ["rotten-tomatoes", "sst2"])
def test_a_split_that_a_task_has_not_is_refused(name: str) -> None:
    with pytest.raises(ToolkitError, match=f"{name} has no split 'dev_mismatched'"):
        load_split(get_task(name), "dev_mismatched")


# The embedded default, and the hub


def test_rotten_tomatoes_splits_stay_as_they_are() -> None:
    task = get_task("rotten-tomatoes")
    train, dev, test = (load_split(task, split) for split in ("train", "dev", "test"))
    assert (len(train), len(dev), len(test)) == (6909, 767, 854)
    assert len({*train.texts, *dev.texts, *test.texts}) == 8530
    for split in (train, dev, test):
        assert split.labels.mean() == pytest.approx(0.5, abs=0.03)
    assert train.digest == "1fa3aba73bb2d895f53f4fbf96d9693e97023f4e9e1ff561432b4bcb4859c5ef"
    assert dev.digest == "34a575b06ca363950a7fbd9652a5793bf0cfae746d85098f95bc0ebd988df3f0"
    # what dev was before there was a test split
    assert test.digest == "8f7f2e2e37893c48221445593b4d54728ce2e28ff08e8c15ca07a0c0ab5f5dad"
    alone = load_test(task)
    assert alone is not None
    assert alone.digest == test.digest


def test_a_hub_that_cannot_be_reached_says_what_else_would_do() -> None:
    with pytest.raises(ToolkitError, match="cannot read the data set nyu-mll/glue") as caught:
        load_split(get_task("rte"), "dev")  # the tests run with HF_HUB_OFFLINE=1
    assert "--data DIR" in caught.value.fix


# Splits


def test_the_digest_sees_every_part() -> None:
    base = Split(["a", "b"], ["c", "d"], np.array([0, 1]), "here")
    assert base.digest == Split(["a", "b"], ["c", "d"], np.array([0, 1]), "elsewhere").digest
    changed = [
        Split(["b", "a"], ["c", "d"], np.array([0, 1]), ""),
        Split(["a", "b"], ["c", "x"], np.array([0, 1]), ""),
        Split(["a", "b"], None, np.array([0, 1]), ""),
        Split(["a", "b"], ["c", "d"], np.array([1, 1]), ""),
    ]
    assert base.digest not in {split.digest for split in changed}


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 1000))
def test_a_subsample_is_a_random_subset_in_order(n: int, rows: int, seed: int) -> None:
    split = Split([str(i) for i in range(n)], [f"p{i}" for i in range(n)], np.arange(n), "here")
    subset = split.subsample(rows, seed)
    kept = [int(text) for text in subset.texts]
    assert len(subset) == min(n, rows)
    assert kept == sorted(set(kept)) == subset.labels.tolist()
    assert subset.pairs == [f"p{i}" for i in kept]
    assert subset.digest == split.subsample(rows, seed).digest


@pytest.mark.parametrize("rows", [1, 30, 99, 100, 500])
def test_a_subset_is_the_same_whether_all_rows_are_held_or_not(tmp_path: Path, rows: int) -> None:
    """The reader hands out one row at a time, and a subset keeps none but its own."""
    write(tmp_path, "train.csv", "text,label\n" + "".join(f"t{i},{'xy'[i % 2]}\n" for i in range(100)) + " ,x\n")
    options, task = DataOptions(skip_bad_rows=True), resolve_task("auto", tmp_path)
    whole = load_split(task, "train", tmp_path, options)
    subset = load_split(task, "train", tmp_path, options, max_rows=rows, seed=3)
    assert subset.digest == whole.subsample(rows, 3).digest
    assert subset.source == whole.subsample(rows, 3).source


def test_a_long_table_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("toolkit.data.datasets.PLAIN_INTERVAL_S", -1.0)
    write(tmp_path, "train.csv", "text,label\n" + "a,x\nb,y\n" * 1500)
    load_split(Task("auto", ("x", "y")), "train", tmp_path)
    assert "train.csv: 2,000 rows read" in capsys.readouterr().out
