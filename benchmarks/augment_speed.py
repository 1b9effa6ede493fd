"""How fast is augmentation, and does its memory stay flat? `python benchmarks/augment_speed.py [--help]`.

Speed: candidates from a masked language model for the words of real sentences, by `toolkit.candidates` and by one word
per forward pass (the head on every token, all pieces sorted, as the reference code does it), same model, same
sentences, same process, in turns. The weights are random where no --mlm is given: speed does not depend on them.
Memory: the peak of `toolkit augment` with GloVe on made-up sentences, each size in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from toolkit.augment import stopwords
from toolkit.candidates import MaskedWords
from toolkit.data import load_split
from toolkit.embedded import minilm
from toolkit.hub import Source
from toolkit.tasks import get_task
from toolkit.words import Word, eligible_words


def one_by_one(model: MaskedWords, texts: list[str], words: list[list[Word]], limit: int) -> int:
    """One forward pass for each word, until `limit` words are done; how many were done."""
    done = 0
    for text, found in zip(texts, words, strict=True):
        for word in found:
            pair = model.tokenizer(text, text, return_tensors="pt", return_offsets_mapping=True)
            spans = pair.pop("offset_mapping")[0].tolist()
            if [word.start, word.end] not in spans:
                continue
            place = spans.index([word.start, word.end])
            pair["input_ids"][0, place] = model.tokenizer.mask_token_id
            with torch.no_grad():
                logits = model.model(**pair.to(model.device)).logits
            best = torch.argsort(logits[0, place], descending=True)[: model.k].tolist()
            model.tokenizer.convert_ids_to_tokens(best)
            done += 1
            if done == limit:
                return done
    return done


def timed(call: Any) -> float:
    """Words per second of a call that returns how many words it served."""
    start = time.perf_counter()
    words = call()
    return words / (time.perf_counter() - start)


def speed(arguments: argparse.Namespace, workdir: Path) -> dict[str, Any]:
    """Words/s of both ways over the same sentences, in turns, and the ratio."""
    name = arguments.mlm or save_random(arguments, workdir / "mlm")
    model = MaskedWords(Source(name, workdir), 15, arguments.batch_size, arguments.together)
    texts = load_split(get_task("rotten-tomatoes"), "train").texts[: arguments.sentences]
    words = [eligible_words(text, stopwords()) for text in texts]
    one_by_one(model, texts, words, 8)
    model.candidates(texts[:8], words[:8])
    batched, single = [], []
    for _ in range(arguments.repeats):
        batched.append(timed(lambda: len(model.candidates(texts, words))))
        single.append(timed(lambda: one_by_one(model, texts, words, arguments.single_words)))
    return {
        "model": arguments.mlm or f"random weights, {arguments.shape}", "device": str(model.device),
        "threads": torch.get_num_threads(), "sentences": len(texts), "batch_size": arguments.batch_size,
        "together": arguments.together,
        "batched_words_per_s": round(statistics.median(batched), 1),
        "single_words_per_s": round(statistics.median(single), 1),
        "ratio": round(statistics.median(a / b for a, b in zip(batched, single, strict=True)), 2),
    }  # fmt: skip


def save_random(arguments: argparse.Namespace, path: Path) -> str:
    """A BertForMaskedLM with random weights and BERT's own vocabulary."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    layers, hidden, ffn, heads = map(int, arguments.shape.split("/"))
    config = BertConfig(num_hidden_layers=layers, hidden_size=hidden, intermediate_size=ffn, num_attention_heads=heads)
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(path)
    return str(path)


def memory(rows: int, workdir: Path) -> dict[str, Any]:
    """Peak memory of one process that augments this many made-up sentences with GloVe."""
    data = workdir / f"data{rows}"
    data.mkdir()
    draw = random.Random(0)
    vocabulary = sorted({word for text in load_split(get_task("rotten-tomatoes"), "train").texts[:500]
                         for word in text.split() if word.isalpha()})  # fmt: skip
    with (data / "train.csv").open("w") as file:
        file.write("text,label\n")
        for row in range(rows):
            file.write(f"{' '.join(draw.choices(vocabulary, k=20))},{'ab'[row % 2]}\n")
    out = workdir / f"{rows}.parquet"
    command = [sys.executable, __file__, "--child", str(data), str(out)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    report = json.loads(Path(f"{out}.report.json").read_text())
    return {"rows": rows, "written": report["written"], "words_per_s": report["words_per_s"],
            "file_bytes": out.stat().st_size, **told}  # fmt: skip


def child(data: str, out: str) -> None:
    """Augment, then print the peak of this process: ru_maxrss is in KB on Linux."""
    from toolkit.augment import run_augment
    from toolkit.config import AugmentConfig

    run_augment(AugmentConfig("auto", out, data=data, copies=5))
    print(json.dumps({"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)}))


def main() -> None:
    """Print one JSON object for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlm", help="a masked language model [default: random weights of --shape]")
    parser.add_argument("--shape", default="12/768/3072/12", help="LAYERS/HIDDEN/FFN/HEADS of the random weights")
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--single-words", type=int, default=64, help="words of the slow way, a sample")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--together", type=int, default=1, help="words masked in one input")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 100_000], help="rows; none to leave it out")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    with tempfile.TemporaryDirectory() as workdir:
        if arguments.sentences:
            print(json.dumps(speed(arguments, Path(workdir))), flush=True)
        for rows in arguments.memory:
            print(json.dumps(memory(rows, Path(workdir))), flush=True)


if __name__ == "__main__":
    main()
