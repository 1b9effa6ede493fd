"""All that a GPU should prove, by one command, within minutes: `python -m benchmarks.gpu --out runs/gpu`.

    python -m benchmarks.gpu --out runs/gpu --minutes 9 --data GLUE --encoder MINILM   # on a machine with a GPU
    python -m benchmarks.gpu --out runs/gpu --device cpu --minutes 3 --tiny            # anywhere: does the code work?

Parts, the most important first: checks (the machine, the tests marked gpu), claim (BERT-base against TinyBERT4 by the
paper's preset), training (rates of both stages), grid (batch sizes and lengths), quality (GLUE), runtimes (ONNX,
torch.compile). OUT/gpu.json is replaced after each measurement: a run that is cut off keeps what it had.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.report import Settings
from benchmarks.gpu.run import SHARES, run


def main() -> None:
    """Run the parts that the arguments name; exit with 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of gpu.json [default: runs/gpu]")
    parser.add_argument("--minutes", type=float, default=9.0, help="in which all ends [default: 9]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models, few repeats: only to see that all works")
    parser.add_argument("--parts", nargs="+", choices=tuple(SHARES), default=tuple(SHARES), help="[default: all]")
    parser.add_argument("--data", type=Path, help="folder with GLUE's folders, for quality")
    parser.add_argument("--encoder", type=Path, help="directory of MiniLM, for quality [default: its package]")
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3), help="of quality")
    arguments = parser.parse_args()
    settings = Settings(
        arguments.device, arguments.tiny, arguments.out.resolve(), arguments.data, arguments.encoder,
        tuple(arguments.seeds),
    )  # fmt: skip
    succeeded = run(settings, arguments.minutes, tuple(arguments.parts))
    print(settings.report)
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
