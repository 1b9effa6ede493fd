"""Your own rows to a student that answers over HTTP.

    python examples/own_data.py reviews [ENCODER]
    python examples/call_service.py http://localhost:8080 "a warm and funny film"

`reviews` is a folder with train.csv and dev.csv, or one file; its columns are text and label.
"""

from __future__ import annotations

import sys

from toolkit import distill, export, finetune, listening, serve


def main(data: str, encoder: str = "bert-base-uncased", *, out: str = "runs/own", port: int = 8080) -> None:
    """Train a teacher, distil it, quantize the student, and serve it until Ctrl-C."""
    with listening():  # print what the command line prints; without it nothing is said
        finetune(model=encoder, task="auto", data=data, out=f"{out}/teacher")
        distill(teacher=f"{out}/teacher", task="auto", data=data, out=f"{out}/student")
        small = export(source=f"{out}/student", out=f"{out}/int8", data=data, max_drop=2.0)
        print(f"{small.weight_bytes / 1e6:.1f} MB, {small.split} accuracy {small.metrics['accuracy']:.1%}")
        serve(bundles=(f"{out}/int8",), port=port)


if __name__ == "__main__":
    main(*sys.argv[1:])
