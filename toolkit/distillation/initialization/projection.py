"""Low-rank projection of a teacher into its student (`--init teacher`), layer by layer, on real text.

The residual stream takes the strongest d directions (PCA) of the teacher's hidden states. Then, from the embeddings
upwards, each student layer is fitted to its mapped teacher layer on a sample of text, given the real output of the
student's lower layers:

- queries and keys: per head the best rank-d_head factors of W_q^T W_k under the inputs' second moments;
- values: per head the strongest d_head directions of W_o W_v; the output matrix then by least squares;
- feed-forward: the strongest neurons of the teacher's layer; the output matrix by least squares;
- layer norms: scale and shift of each dimension by linear regression;
- projections W_e, W_h (Eq. 8, 9): by least squares.

The teacher runs once on the sample, and each student layer once on the output of the layer below.

Shapes: n real tokens of the sample, d / D widths of student / teacher, A heads, F / F' FFN widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from toolkit.distillation.initialization.low_rank import (
    Affine,
    Ridge,
    Whitening,
    diagonal_least_squares,
    least_squares,
    low_rank_scores,
    low_rank_values,
    principal_directions,
)
from toolkit.distillation.initialization.statistics import LayerStatistics, collect_statistics
from toolkit.models.families import LayerPaths, TorchBatch, encoder_layers, head_modules, layer_paths, position_offset
from toolkit.models.student import Shape, check_smaller

OUTPUT_ROUNDS = 4  # of fitting an output matrix and its norm in turn; most of the error goes in the first two


@torch.no_grad()
def project_from_teacher(
    student: Any, teacher: Any, mapping: Sequence[int], batches: Sequence[TorchBatch]
) -> list[Affine]:
    """Set the student's weights from the teacher's and return the projections, fitted for each level 0..M.

    Args:
        student: BERT with no larger width in any respect and the same heads; changed in place.
        teacher: a supported family, in eval mode, with a classification head where the student has one.
        mapping: g(1)..g(M).
        batches: a sample of text as padded tensors [B, L]: input_ids, attention_mask, token_type_ids.

    Raises:
        ToolkitError: the student is larger than the teacher in some respect, or the head is of an unknown kind.
    """
    check_smaller(Shape.from_config(student.config), teacher)
    layers, paths = encoder_layers(teacher), layer_paths(teacher)
    embedded, statistics, logits = collect_statistics(teacher, mapping, batches)
    outputs = [embedded, *(layer.output for layer in statistics)]
    basis = principal_directions(outputs, student.config.hidden_size)  # D, d
    del outputs  # each layer's states are freed when its student layer is set
    _set_embeddings(student, teacher, basis)
    states = _embed(student, batches, embedded @ basis)
    projections = [least_squares(states, embedded)]
    for layer, g in zip(student.base_model.encoder.layer, mapping, strict=True):
        target = statistics.pop(0)
        states = _set_layer(layer, layers[g - 1], paths, target, basis, states, batches)
        projections.append(least_squares(states, target.output))
    if len(logits):
        _set_head(student, teacher, states[_first_tokens(batches)], projections[-1], logits)
    return projections


def _set_embeddings(student: Any, teacher: Any, basis: Tensor) -> None:
    """Project the tables, scaled by the teacher's layer norm (with ELECTRA's projection), to the student's width."""
    source, target = teacher.base_model.embeddings, student.base_model.embeddings
    through = torch.diag(source.LayerNorm.weight)
    if hasattr(teacher.base_model, "embeddings_project"):
        through = through @ teacher.base_model.embeddings_project.weight.T

    def project(table: Tensor) -> Tensor:
        return (table - table.mean(dim=1, keepdim=True)) @ through @ basis

    target.word_embeddings.weight.copy_(project(source.word_embeddings.weight))
    offset = position_offset(teacher.config.model_type, teacher.config.pad_token_id)
    target.position_embeddings.weight.copy_(project(source.position_embeddings.weight[offset:]))
    target.token_type_embeddings.weight.zero_()
    if hasattr(source, "token_type_embeddings"):
        target.token_type_embeddings.weight.copy_(project(source.token_type_embeddings.weight))


def _embed(student: Any, batches: Sequence[TorchBatch], target: Tensor) -> Tensor:
    """Fit the embeddings' norm to `target` [n, d] and return the student's states after it, [n, d]."""
    embeddings, norm = student.base_model.embeddings, student.base_model.embeddings.LayerNorm
    norm.weight.fill_(1.0)
    norm.bias.zero_()
    plain = torch.cat([
        embeddings(input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"])[batch["attention_mask"].bool()]
        for batch in batches
    ])  # fmt: skip
    scale, shift = diagonal_least_squares(plain, target)
    norm.weight.copy_(scale)
    norm.bias.copy_(shift)
    return plain * scale + shift


def _set_layer(
    layer: Any, source: nn.Module, paths: LayerPaths, target: LayerStatistics, basis: Tensor, states: Tensor,
    batches: Sequence[TorchBatch],
) -> Tensor:  # fmt: skip
    """Set one student layer on top of the states [n, d] below it, and return its output [n, d]."""
    linear: dict[str, Any] = {name: source.get_submodule(path) for name, path in vars(paths).items()}
    _set_attention(layer.attention.self, linear, least_squares(states, target.input), basis, states)
    context = _attend(layer.attention.self, states, batches)
    middle = _set_output(layer.attention.output, context, states, target.attention_sum @ basis, target.middle @ basis)

    out = linear["ffn_out"].weight
    strength = target.energy.sum(0) * (basis.T @ out).square().sum(0)  # F'
    chosen = strength.topk(layer.intermediate.dense.out_features).indices.sort().values
    weight, bias = _compose(linear["ffn_in"], least_squares(middle, target.middle))
    _copy(layer.intermediate.dense, (weight[chosen], bias[chosen]))
    neurons = layer.intermediate(middle)
    return _set_output(layer.output, neurons, middle, target.output_sum @ basis, target.output @ basis)


def _set_attention(attention: Any, linear: dict[str, Any], to_teacher: Affine, basis: Tensor, states: Tensor) -> None:
    """Set queries, keys and values of every head at the student's head width.

    Args:
        attention: the student's, with query, key and value.
        linear: the teacher layer's linear modules.
        to_teacher: the map from the student's states to the input of that teacher layer.
        basis: [D, d].
        states: [n, d].
    """
    heads, narrow = attention.num_attention_heads, attention.attention_head_size
    composed = [_compose(linear[name], to_teacher) for name in ("query", "key", "value")]
    out = basis.T @ linear["attention_out"].weight  # d, D
    inputs = Whitening(states)
    wide = composed[0][0].shape[0] // heads
    scale = (narrow / wide) ** 0.25  # the student divides by sqrt(narrow), the teacher by sqrt(wide)
    for head in range(heads):
        old, new = slice(head * wide, (head + 1) * wide), slice(head * narrow, (head + 1) * narrow)
        query, key, value = ((weight[old], bias[old]) for weight, bias in composed)
        query, key = low_rank_scores(query, key, inputs, narrow)
        value = low_rank_values(value, out[:, old], inputs, narrow)
        for module, (weight, bias), factor in (
            (attention.query, query, scale), (attention.key, key, scale), (attention.value, value, 1.0)
        ):  # fmt: skip
            module.weight[new], module.bias[new] = weight * factor, bias * factor


def _attend(attention: Any, states: Tensor, batches: Sequence[TorchBatch]) -> Tensor:
    """Compute the student's context vectors [n, d] from its states [n, d]."""
    contexts, start = [], 0
    for batch in batches:
        mask = batch["attention_mask"].bool()
        count = int(mask.sum())
        padded = torch.zeros(*mask.shape, states.shape[1])
        padded[mask] = states[start : start + count]
        start += count
        heads = (*mask.shape, attention.num_attention_heads, attention.attention_head_size)
        query, key, value = (
            linear(padded).view(heads).transpose(1, 2) for linear in (attention.query, attention.key, attention.value)
        )
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        contexts.append(context.transpose(1, 2).reshape(padded.shape)[mask])
    return torch.cat(contexts)


def _set_output(block: Any, features: Tensor, residual: Tensor, sum_target: Tensor, target: Tensor) -> Tensor:
    """Fit a block's output matrix and norm, so that LN(features W^T + b + residual) comes closest to `target`.

    The first round fits the sum before the norm to the teacher's sum. Each later round fits it to the sum that the norm
    of the round before would map to `target`. The best round is kept.

    Args:
        block: the student's output block, with `dense` and `LayerNorm`.
        features: [n, in].
        residual: [n, d].
        sum_target, target: the teacher's states before and after its norm, in the student's space, [n, d].

    Returns:
        The block's output, [n, d].
    """
    least_error, best, ridge = torch.inf, target, Ridge(features)
    for _ in range(OUTPUT_ROUNDS):
        weight, bias = ridge.solve(sum_target - residual)
        total = features @ weight.T + bias + residual
        mean, spread = total.mean(dim=1, keepdim=True), total.std(dim=1, correction=0, keepdim=True)
        scale, shift = diagonal_least_squares((total - mean) / spread, target)
        output = (total - mean) / spread * scale + shift
        error = float((output - target).square().mean())
        if error < least_error:
            least_error, best = error, output
            _copy(block.dense, (weight, bias))
            _copy(block.LayerNorm, (scale, shift))
        typical = scale.abs().mean()
        divisor = torch.where(scale.abs() < 0.1 * typical, typical, scale)
        sum_target = mean + spread * (target - shift) / divisor
    return best


def _set_head(student: Any, teacher: Any, first: Tensor, to_teacher: Affine, logits: Tensor) -> None:
    """Set the pooler from the strongest neurons of the teacher's head, and fit the classifier to its logits.

    Args:
        student, teacher: classifiers.
        first: the student's last states of each row's first token, [rows, d].
        to_teacher: the map from the student's last states to the teacher's.
        logits: the teacher's, [rows, C].
    """
    dense, out = head_modules(teacher)
    weight, bias = _compose(dense, to_teacher)
    chosen = out.weight.square().sum(0).topk(min(first.shape[1], dense.out_features)).indices.sort().values
    pooler = student.base_model.pooler.dense
    pooler.weight.zero_()
    pooler.bias.zero_()
    pooler.weight[: len(chosen)], pooler.bias[: len(chosen)] = weight[chosen], bias[chosen]
    _copy(student.classifier, least_squares(torch.tanh(pooler(first)), logits))


def _first_tokens(batches: Sequence[TorchBatch]) -> Tensor:
    """Return the positions of each row's first token among the real tokens, [rows]."""
    lengths = torch.cat([batch["attention_mask"].sum(dim=1) for batch in batches])
    return lengths.cumsum(0) - lengths


def _compose(linear: Any, inner: Affine) -> Affine:
    """Compose linear(inner(x)) into a single affine map."""
    weight, bias = inner
    return linear.weight @ weight, linear.weight @ bias + linear.bias


def _copy(module: Any, affine: Affine) -> None:
    module.weight.copy_(affine[0])
    module.bias.copy_(affine[1])
