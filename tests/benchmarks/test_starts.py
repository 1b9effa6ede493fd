"""The table of starts, from made-up results."""

from __future__ import annotations

from typing import Any

from benchmarks.starts import starts


def run(task: str, teacher: float, start: float, student: float, **more: Any) -> dict[str, Any]:
    return {"task": task, "teacher": teacher, "start": start, "student": student, **more}


def test_tasks_weigh_the_same_and_minutes_are_of_one_epoch() -> None:
    glue = [run("a", 80, 40, 80), run("a", 80, 60, 40), run("b", 50, 50, 50)]
    large = run("a", 80, 40, 60, init="a student", shapes={"teacher": {"shape": "12/768/3072/12"}})
    scale = [large, large | {"student": 68}, large | {"init": "an encoder, labels alone"}]
    variants = ("no augmentation", "init general from teacher", "init general", "init random")
    few = [run("rotten-tomatoes", 100, 10 * i, 90 - i, variant=name) for i, name in enumerate(variants)]
    few.append(run("cola", 100, 0, 0, variant="init random"))
    demo = {
        "threads": 2, "environment": {"cpu": "a CPU"},
        "distillation": {
            "epochs": [2, 1], "texts": 20_000, "tokens": 500_000,
            "seconds": {"stage a, intermediate": 480, "stage b, prediction": 120, "starting the student": 30},
            "shapes": {"teacher": "6/384/1536/12", "student": "4/312/1200/12"},
        },
    }  # fmt: skip
    text = starts(glue, {"settings": {"max_rows": 2000}, "rows": few}, scale, demo)
    assert "| 6/384; 2 tasks | teacher | 81.2 % | 87.5 % |" in text  # (50 / 80 + 1) / 2 and (60 / 80 + 1) / 2
    assert "| 12/768; a, and more text of its kind | a student | 50.0 % | 80.0 % |" in text
    assert "| 12/768; a | an encoder, labels alone | 50.0 % | 75.0 % |" in text
    assert "| 6/384; 2,000 rows of rotten-tomatoes | random | 30.0 % | 87.0 % |" in text
    assert "10,000 texts of 25 tokens, from 6/384 to 4/312 on 2 threads of a CPU" in text
    assert "2.0 for an epoch of stage a, 1.0 for an epoch of stage b. The start takes 0.5 minutes" in text
