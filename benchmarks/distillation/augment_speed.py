"""Speed, agreement and memory of augmentation: `python -m benchmarks.distillation.augment_speed`.

Speed: the words a second of `toolkit.augmentation.mlm_candidates` on real sentences, against one word per forward pass
(the head on every token, all pieces sorted, as in the reference code), with the same model and process, in turns. The
weights are random without --mlm; speed does not depend on them.
Agreement, with a masked language model of --trained (`python -m benchmarks.distillation.masked_lm` makes one): the
fraction of a word's candidates that are those of float32 with one word masked in an input, and their log-probability.
Memory: the peak of `toolkit augment` with GloVe on made-up sentences, each size in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from benchmarks.paths import AUGMENT
from toolkit.augmentation.augment import stopwords
from toolkit.augmentation.masked_lm import masked_logits
from toolkit.augmentation.mlm_candidates import MaskedLMCandidates
from toolkit.augmentation.words import Word, eligible_words
from toolkit.data.builtin import minilm
from toolkit.data.datasets import load_split
from toolkit.measurement.environment import environment
from toolkit.models.loading import Source
from toolkit.tasks import get_task

K = 15
Places = Iterator[tuple[str, Word]]


@dataclass
class Turn:
    """Seconds per word, of wall-clock and CPU time: of a variant, and of one word per forward pass around it."""

    ours: tuple[float, float]
    single: tuple[float, float]


def one_by_one(model: Any, tokenizer: Any, places: Places, limit: int) -> int:
    """Take a forward pass for each word until `limit` words are done, and return their number."""
    done = 0
    while done < limit:
        text, word = next(places)
        pair = tokenizer(text, text, return_tensors="pt", return_offsets_mapping=True)
        spans = pair.pop("offset_mapping")[0].tolist()
        if [word.start, word.end] not in spans:
            continue
        place = spans.index([word.start, word.end])
        pair["input_ids"][0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(**pair.to(model.device)).logits
        best = torch.argsort(logits[0, place], descending=True)[:K].tolist()
        tokenizer.convert_ids_to_tokens(best)
        done += 1
    return done


def timed(call: Callable[[], int]) -> tuple[float, float]:
    """Return seconds per word, of wall-clock and CPU time, of a call that returns its number of words."""
    start, cpu = time.perf_counter(), time.process_time()
    words = call()
    return (time.perf_counter() - start) / words, (time.process_time() - cpu) / words


def sentences(count: int) -> tuple[list[str], list[list[Word]]]:
    """Return the first sentences of Rotten Tomatoes, and the words of each that may be replaced."""
    texts = load_split(get_task("rotten-tomatoes"), "train").texts[:count]
    return texts, [eligible_words(text, stopwords()) for text in texts]


def variants(arguments: argparse.Namespace, source: Source) -> list[tuple[int, MaskedLMCandidates]]:
    """Return the variants: words masked in one input, in float32 and in the precision of `auto` where it differs."""
    models = [MaskedLMCandidates(source, K, arguments.batch_size, precision=name) for name in ("fp32", "auto")]
    models = models[: 1 if models[1].precision == "fp32" else 2]
    return [(together, model) for together in arguments.together for model in models]


def speed(arguments: argparse.Namespace, workdir: Path) -> dict[str, Any]:
    """Measure words/s of each variant on the same sentences, and its ratio to one word per forward before and after."""
    source = Source(arguments.mlm or save_random(arguments, workdir / "mlm"), workdir)
    measured, plain = variants(arguments, source), source.masked_lm()
    plain = plain.to(measured[0][1].device)
    texts, words = sentences(arguments.sentences)
    places = [(text, word) for text, own in zip(texts, words, strict=True) for word in own]
    random.Random(0).shuffle(places)  # so that the mean length of a few is that of all
    turn = cycle(places)

    def single() -> tuple[float, float]:
        return timed(lambda: one_by_one(plain, source.tokenizer, turn, arguments.single_words))

    single()
    for _, model in measured:
        model.candidates(texts[:4], words[:4])
    turns: list[list[Turn]] = [[] for _ in measured]
    for _ in range(arguments.repeats):
        before = single()
        for (together, model), own_turns in zip(measured, turns, strict=True):
            model.masks_per_input = together
            ours, after = timed(lambda model=model: len(model.candidates(texts, words))), single()  # type: ignore[misc]
            own_turns.append(Turn(ours, ((before[0] + after[0]) / 2, (before[1] + after[1]) / 2)))
            before = after
    rows = [
        {"together": together, "precision": model.precision, **_ratio(own_turns)}
        for (together, model), own_turns in zip(measured, turns, strict=True)
    ]
    return {
        "model": arguments.mlm or f"random weights, {arguments.shape}", "device": str(plain.device),
        "threads": torch.get_num_threads(), "sentences": len(texts), "words": len(places),
        "batch_size": arguments.batch_size, "repeats": arguments.repeats, "rows": rows,
    }  # fmt: skip


def _ratio(turns: list[Turn]) -> dict[str, float]:
    ratios = [turn.single[0] / turn.ours[0] for turn in turns]
    return {
        "words_per_s": round(statistics.median(1 / turn.ours[0] for turn in turns), 1),
        "single_words_per_s": round(statistics.median(1 / turn.single[0] for turn in turns), 2),
        "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "cpu_ratio": round(statistics.median(turn.single[1] / turn.ours[1] for turn in turns), 2),
    }  # fmt: skip


@torch.inference_mode()
def log_probabilities(
    model: MaskedLMCandidates, texts: list[str], words: list[list[Word]]
) -> dict[tuple[int, int], Any]:
    """Return log-probabilities of all whole words [W], one word masked in an input, by (text, word) numbers."""
    pairs = model.tokenizer(texts, texts).encodings
    by_place = {}
    for text, pair in enumerate(pairs):
        for number, token in (group[0] for group in model._groups(pair, texts[text], words[text])):
            ids, types = torch.tensor([pair.ids]), torch.tensor([pair.type_ids])
            ids[0, token] = model.tokenizer.mask_token_id
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": types}
            batch = {name: ids.to(model.device) for name, ids in batch.items()}
            logits = masked_logits(model.model, batch, torch.tensor([[0, token]], device=model.device))
            by_place[text, number] = logits[0].log_softmax(-1)
    return by_place


def agreement(arguments: argparse.Namespace, workdir: Path) -> dict[str, Any]:
    """Compare each variant's candidates with those of float32 with one word masked in an input, by a trained model."""
    measured = variants(arguments, Source(arguments.trained, workdir))
    texts, words = sentences(arguments.agreement_sentences)
    exact = measured[0][1]
    exact.masks_per_input = 1
    reference, scores = exact.candidates(texts, words), log_probabilities(exact, texts, words)
    column = {name: i for i, name in enumerate(exact.words.values())}

    def compare(candidates: dict[tuple[int, int], list[str]]) -> dict[str, float]:
        same = [len(set(reference[place]) & set(names)) / len(reference[place]) for place, names in candidates.items()]
        likelihoods = [
            float(scores[place][column[name.lower()]])
            for place, names in candidates.items() for name in names if name.lower() in column
        ]  # fmt: skip
        return {"same": round(statistics.mean(same), 4), "log_probability": round(statistics.mean(likelihoods), 4)}

    rows = []
    for together, model in measured:
        model.masks_per_input = together
        rows.append({"together": together, "precision": model.precision, **compare(model.candidates(texts, words))})
    order = list(reference)
    random.Random(0).shuffle(order)
    elsewhere = {place: reference[other] for place, other in zip(reference, order, strict=True)}
    return {
        "model": arguments.trained_as, "sentences": len(texts), "words": len(reference), "rows": rows,
        "of_another_word": compare(elsewhere),
    }  # fmt: skip


def save_random(arguments: argparse.Namespace, path: Path) -> str:
    """Save a BertForMaskedLM with random weights and BERT's own vocabulary; return its folder."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    layers, hidden, ffn, heads = map(int, arguments.shape.split("/"))
    config = BertConfig(num_hidden_layers=layers, hidden_size=hidden, intermediate_size=ffn, num_attention_heads=heads)
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(path)
    return str(path)


def memory(rows: int, workdir: Path) -> dict[str, Any]:
    """Measure the peak memory of a process that augments so many made-up sentences with GloVe."""
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
    command = [sys.executable, "-m", "benchmarks.distillation.augment_speed", "--child", str(data), str(out)]
    peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    report = json.loads(Path(f"{out}.report.json").read_text())
    return {"rows": rows, "written": report["written"], "words_per_s": report["words_per_s"],
            "file_bytes": out.stat().st_size, **peak}  # fmt: skip


def child(data: str, out: str) -> None:
    """Augment, then print the peak memory of this process in MB. Linux's ru_maxrss would include the parent's."""
    from toolkit.augmentation.augment import run_augment
    from toolkit.config import AugmentConfig

    run_augment(AugmentConfig("auto", out, data=data, copies=5, overwrite=True))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(json.dumps({"peak_mb": round(int(status.split("VmHWM:")[1].split()[0]) / 1000)}))


def main() -> None:
    """Measure the parts that the arguments name, print each as a JSON object, and write them to --results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlm", help="a masked language model [default: random weights of --shape]")
    parser.add_argument("--shape", default="12/768/3072/12", help="LAYERS/HIDDEN/FFN/HEADS of the random weights")
    parser.add_argument("--sentences", type=int, default=12, help="0 leaves the speed out")
    parser.add_argument("--single-words", type=int, default=6, help="words of each turn of one word per forward pass")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 4, 8, 16], help="words masked in one input")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trained", help="a trained masked language model, for the agreement [default: left out]")
    parser.add_argument("--trained-as", default="a trained model", help="what to call it")
    parser.add_argument("--agreement-sentences", type=int, default=100)
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[10_000, 100_000], help="rows; without a number, left out"
    )
    parser.add_argument("--results", type=Path, default=AUGMENT, help="measured parts replace those of the file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name)
        if arguments.sentences:
            store(arguments.results, speed=speed(arguments, workdir))
        if arguments.trained:
            store(arguments.results, agreement=agreement(arguments, workdir))
        if arguments.memory:
            store(arguments.results, memory=[memory(rows, workdir) for rows in arguments.memory])


def store(path: Path, **part: Any) -> None:
    """Print a part, and write it beside the other parts, with the environment."""
    print(json.dumps(part), flush=True)
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content |= part | {"environment": environment()}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
