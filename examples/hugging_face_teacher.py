"""A classifier that you have already, from the hub or a directory, as the teacher of a student.

    python examples/hugging_face_teacher.py textattack/bert-base-uncased-SST-2 reviews

The student learns from the teacher's answers and layers. The labels of `reviews` are those of the teacher, by name.
"""

from __future__ import annotations

import sys

from toolkit import ToolkitError, distill, evaluate, load


def main(teacher: str, data: str, *, out: str = "runs/student") -> None:
    """Distil the teacher, and see where the student stands."""
    try:
        small = distill(teacher=teacher, task="auto", data=data, out=out)
    except ToolkitError as error:  # what was given, what was expected, and what to do next
        raise SystemExit(str(error)) from None
    print(f"the student: {small.metrics}, on rows of {small.split} that it has not learnt from")
    print(f"on the rows that it has learnt from: {evaluate(bundle=out, data=data, split='train').metrics}")
    for text, answer in zip(texts := ["a warm and funny film", "a dull plot"], load(out).classify(texts), strict=True):
        print(f"{answer[0].label} {answer[0].score:.3f}  {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
