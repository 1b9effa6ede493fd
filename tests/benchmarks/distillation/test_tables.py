"""Tables of students and of their training, from made-up results."""

from __future__ import annotations

from benchmarks.distillation.tables import ablations, augmentation, glue, large_teacher, paper_size, scale


def test_what_a_part_is_worth_is_told_against_the_whole() -> None:
    def row(variant: str, task: str, start: float, student: float) -> dict[str, object]:
        return {
            "variant": variant, "task": task, "seed": 1, "split": "dev", "start": start, "student": student,
            "retention": student + 10,
        }  # fmt: skip

    rows = [
        row("full", "a", 60, 80),
        row("no hidden", "a", 60, 78),
        row("full", "b", 40, 50),
        row("no hidden", "b", 40, 51),
    ]
    text = ablations({
        "settings": {"max_rows": 2000}, "paper": {"full": 75.6, "no hidden": 72.9}, "rows": rows
    })  # fmt: skip
    assert "| full | 2 | 50.0 | 65.0 | 75.0 | +0.0 ± 0.0 | +0.0 |" in text
    assert "| no hidden | 2 | 50.0 | 64.5 | 74.5 | -0.5 ± 2.1 | -2.7 |" in text
    assert text.endswith("a (dev), b (dev); seeds 1; 2,000 training rows.\n")
    for entry in rows:
        del entry["split"]
    assert "Steps were chosen by the dev rows that score them" in ablations({
        "settings": {"max_rows": 2000}, "paper": {"full": 75.6}, "rows": rows,
    })  # fmt: skip


def test_a_score_is_told_with_its_split_and_with_what_chose_its_step() -> None:
    def row(task: str, **split: str) -> dict[str, object]:
        return {
            "task": task,
            "metric": "f1",
            "seed": 1,
            "teacher": 90,
            "start": 50,
            "student": 81,
            "retention": 90,
        } | split

    text = glue([row("mrpc", split="dev"), row("rotten-tomatoes", split="test")])
    assert "| mrpc, dev, f1 | 1 | 90.0 | 50.0 | 81.0 | 90.0 % |" in text
    assert "| rotten-tomatoes, test, f1 | 1 |" in text
    assert "chosen by" not in text
    assert "Steps of rte were chosen by the dev rows that score them" in glue([row("rte"), row("mrpc", split="dev")])


def test_each_way_of_augmenting_is_told_with_what_it_does_to_candidates() -> None:
    def way(together: int, precision: str, **figures: float) -> dict[str, object]:
        return {"together": together, "precision": precision, **figures}

    speeds = {"cpu_ratio": 20.5, "ratio": 99.0}  # by the clock, which other programs disturb
    text = augmentation({
        "environment": {"cpu": "a CPU"},
        "speed": {"model": "M", "sentences": 12, "threads": 1, "repeats": 3, "rows": [way(4, "bf16", **speeds)]},
        "agreement": {
            "model": "T", "words": 700, "of_another_word": {"same": 0.1, "log_probability": -8.0},
            "rows": [way(1, "fp32", same=1.0, log_probability=-4.0), way(4, "bf16", same=0.934, log_probability=-4.42)],
        },
        "memory": [{"rows": 10_000, "peak_mb": 900}, {"rows": 100_000, "peak_mb": 1000}],
    })  # fmt: skip
    assert "| 4 | bf16 | 20.5x | 93.4 % | -4.42 |" in text
    assert "1 thread(s) of a CPU" in text
    assert "10.0 % and -8.00" in text
    assert text.endswith("900 MB for 10,000 rows, 1,000 MB for 100,000 rows.\n")


def test_a_score_says_which_rows_it_is_of() -> None:
    shapes = {
        "teacher": {"shape": "12/768/3072/12", "parameters": 109.5e6},
        "student": {"shape": "4/312/1200/12", "parameters": 14.6e6},
    }  # fmt: skip
    row = {
        "task": "sst2", "metric": "accuracy", "seed": 1, "epochs": [1, 3], "shapes": shapes,
        "teacher": 80.0, "start": 60.0, "student": 78.0,
    }  # fmt: skip
    first = row | {"init": "an encoder", "split": "test"}
    alone = first | {"init": "an encoder, labels alone", "student": 70.0}
    rows = [row | {"init": "teacher"}, alone, first, first | {"seed": 2, "student": 76.0}]
    text = scale(rows)
    assert "| teacher | dev, which chose the step | 1, 3 | 1 | 80.0 | 60.0 | 78.0 | 97.5 % |" in text
    assert "| an encoder | test | 1, 3 | 2 | 80.0 ± 0.0 | 60.0 ± 0.0 | 77.0 ± 1.4 | 96.2 ± 1.8 % |" in text
    assert "109.5M parameters; student 4/312/1200/12, 14.60M: 7.5x smaller" in text
    assert (
        "(12/768/3072/12) TinyBERT4, 7.5x smaller, keeps 96.2 ± 1.8 % of its accuracy on test (2 runs; "
        in large_teacher(rows, {"runs": []})
    )
    assert "keeps 97.5 % of its accuracy on test (one run; " in large_teacher(rows[:3], {"runs": []})


def test_a_large_teacher_stands_beside_what_its_user_would_do_instead() -> None:
    shared = {"init": "MiniLM", "seed": 1, "teacher_int8": 79.0, "start": 40.0, "random": 55.0, "teacher": 80.0}
    rte = shared | {
        "task": "rte", "split": "dev", "metric": "accuracy", "words": 52.0, "labels": 70.0, "student": 76.0,
        "int8": 75.5, "retention": 95.0,
    }  # fmt: skip
    stsb = rte | {"task": "stsb", "metric": "spearman", "words": None}
    again = rte | {"seed": 2, "student": 78.0, "retention": 97.5}
    report = {"runs": [stsb, rte, again], "mean_kept": 95.6, "over_labels_alone": 6.5}
    text = paper_size(report)
    assert "| stsb, dev, spearman | 1 | 80.0 | 79.0 | - | 55.0 | 70.0 | 40.0 | 76.0 | 75.5 | 95.0 % |" in text
    assert "| rte, dev, accuracy | 2 | 80.0 ± 0.0 | " in text
    assert " | 77.0 ± 1.4 | 75.5 ± 0.0 | 96.2 ± 1.8 % |" in text
    assert text.endswith("Mean over 2 tasks: 95.6 % kept, +6.5 points more than the same start on labels alone.\n")
    heads, _, first = (line.split(" | ") for line in text.splitlines()[:3])
    assert len(heads) == len(first) == 11
    assert paper_size({"runs": []}) == "No run is stored yet.\n"
