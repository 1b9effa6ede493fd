"""A model cut to a trimmed vocabulary, and to the positions that its inputs reach."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toolkit.data.vocabulary import TrimmedVocabulary, special_ids, trim_files
from toolkit.errors import ToolkitError
from toolkit.models.families import counts_positions_from_zero
from toolkit.models.loading import Source, open_tokenizer


def trim_model(trimmed: TrimmedVocabulary, model: Any) -> None:
    """Cut a model's word embeddings, in place, to the rows of the pieces that stay.

    Raises:
        ToolkitError: the id of the padding would change, from which some models count positions.
    """
    check_padding(trimmed, model.config)
    embedding = model.get_input_embeddings()
    rows = embedding.weight.detach()[torch.from_numpy(trimmed.ids)].clone()
    model.set_input_embeddings(nn.Embedding(len(rows), rows.shape[1], padding_idx=embedding.padding_idx, _weight=rows))
    renumber_config(trimmed, model.config)


def check_padding(trimmed: TrimmedVocabulary, config: Any) -> None:
    """Refuse pieces without which the padding of a model has another id.

    Raises:
        ToolkitError: it would have one.
    """
    padding = int(config.pad_token_id or 0)
    if trimmed.renumbered.get(padding) != padding:
        raise ToolkitError(
            f"the padding has id {padding}, behind word pieces that could fall away",
            expected="padding among the first ids, as BERT, DistilBERT, ELECTRA and MPNet have it",
        )


def renumber_config(trimmed: TrimmedVocabulary, config: Any) -> None:
    """Put the size of a trimmed vocabulary and the new ids of special pieces in a model's configuration."""
    ids = trimmed.renumbered
    for name, i in special_ids(config.to_dict()).items():
        setattr(config, name, ids.get(i, i))
    config.vocab_size = len(trimmed.ids)


def trim_positions(model: Any, longest: int) -> int | None:
    """Cut a classifier's position embeddings to the rows that inputs of up to `longest` tokens need.

    Returns:
        The number of rows that are left; None where the model does not count positions from 0, and all rows stay.
    """
    if not counts_positions_from_zero(model.config):
        return None
    embeddings = model.base_model.embeddings
    rows = embeddings.position_embeddings.weight.detach()[:longest].clone()
    embeddings.position_embeddings = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
    for name in ("position_ids", "token_type_ids"):
        if hasattr(embeddings, name):
            setattr(embeddings, name, getattr(embeddings, name)[:, :longest])
    model.config.max_position_embeddings = len(rows)
    return len(rows)


def trimmed_source(source: Source, trimmed: TrimmedVocabulary, workdir: Path) -> Source:
    """Return a source whose tokenizer, and configuration, have the trimmed vocabulary; its weights are not changed.

    Args:
        source: the model.
        trimmed: the pieces that stay.
        workdir: gets the tokenizer's files; must not exist.
    """
    cut = copy.copy(source)
    cut.config = copy.deepcopy(source.config)
    renumber_config(trimmed, cut.config)
    cut.tokenizer_dir = shutil.copytree(source.tokenizer_dir, workdir)
    trim_files(trimmed, cut.tokenizer_dir)
    cut.tokenizer = open_tokenizer(cut.tokenizer_dir)
    return cut
