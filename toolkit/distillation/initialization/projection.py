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
from torch import Tensor
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
from toolkit.models.families import (
    LayerModules,
    TorchBatch,
    embedding_projection,
    encoder_layers,
    head_modules,
    layer_modules,
    model_inputs,
    position_bias,
    position_bias_table,
    position_offset,
)
from toolkit.models.student import Shape, check_smaller

OUTPUT_ROUNDS = 2  # of fitting an output matrix and its norm in turn; more rounds bring it no nearer to the teacher


@torch.no_grad()
def project_from_teacher(
    student: Any, teacher: Any, mapping: Sequence[int], batches: Sequence[TorchBatch]
) -> list[Affine]:
    """Set the student's weights from the teacher's and return the projections, fitted for each level 0..M.

    Args:
        student: BERT or MPNet with no larger width in any respect and the same heads; changed in place.
        teacher: a supported family, in eval mode, with a classification head where the student has one.
        mapping: g(1)..g(M).
        batches: a sample of text as padded tensors [B, L]: input_ids, attention_mask, token_type_ids.

    Raises:
        ToolkitError: the student is larger than the teacher in some respect, or the head is of an unknown kind.
    """
    check_smaller(Shape.from_config(student.config), teacher)
    layers = layer_modules(teacher)
    embedded, statistics, logits = collect_statistics(teacher, mapping, batches)
    outputs = [embedded, *(layer.output for layer in statistics)]
    basis = principal_directions(outputs, student.config.hidden_size)  # D, d
    del outputs  # each layer's states are freed when its student layer is set
    _set_embeddings(student, teacher, basis)
    _set_position_bias(student, teacher)
    states = _embed(student, batches, embedded @ basis)
    projections = [least_squares(states, embedded)]
    for m, g in enumerate(mapping, start=1):
        target = statistics.pop(0)
        states = _set_layer(student, m, layers[g - 1], target, basis, states, batches)
        projections.append(least_squares(states, target.output))
    if len(logits):
        _set_head(student, teacher, states[first_tokens(batches)], projections[-1], logits)
    return projections


def _set_embeddings(student: Any, teacher: Any, basis: Tensor) -> None:
    """Project the tables to the student's width, through the teacher's layer norm and projection, if any."""
    source, target = teacher.base_model.embeddings, student.base_model.embeddings
    through = torch.diag(source.LayerNorm.weight)
    if (widening := embedding_projection(teacher)) is not None:
        through = through @ widening.weight.T

    def project(table: Tensor) -> Tensor:
        return (table - table.mean(dim=1, keepdim=True)) @ through @ basis

    target.word_embeddings.weight.copy_(project(source.word_embeddings.weight))
    source_offset, target_offset = (
        position_offset(model.config.model_type, model.config.pad_token_id) for model in (teacher, student)
    )
    positions = project(source.position_embeddings.weight[source_offset:])
    if hasattr(target, "token_type_embeddings"):
        target.token_type_embeddings.weight.zero_()
    if hasattr(source, "token_type_embeddings"):
        types = project(source.token_type_embeddings.weight)
        if hasattr(target, "token_type_embeddings"):
            rows = target.token_type_embeddings.weight
            rows.copy_(types[:1].expand_as(rows))  # more types than the source knows are its first
            rows[: len(types)] = types[: len(rows)]
        else:
            positions = positions + types[0]  # a model without types takes every token for the first one
    rows = target.position_embeddings.weight[target_offset:]
    rows[: len(positions)] = positions[: len(rows)]


def _set_position_bias(student: Any, teacher: Any) -> None:
    """Copy the table of relative positions; scores keep the teacher's scale, and heads are equal."""
    source, target = position_bias_table(teacher), position_bias_table(student)
    if target is not None and source is not None:
        target.weight.copy_(source.weight)
    elif target is not None:
        target.weight.zero_()


def _embed(student: Any, batches: Sequence[TorchBatch], target: Tensor) -> Tensor:
    """Fit the embeddings' norm to `target` [n, d] and return the student's states after it, [n, d]."""
    embeddings, norm = student.base_model.embeddings, student.base_model.embeddings.LayerNorm
    norm.weight.fill_(1.0)
    norm.bias.zero_()
    embedded = []
    for batch in batches:
        inputs = model_inputs(student, batch)
        mask = inputs.pop("attention_mask").bool()
        embedded.append(embeddings(**inputs)[mask])
    plain = torch.cat(embedded)
    scale, shift = diagonal_least_squares(plain, target)
    norm.weight.copy_(scale)
    norm.bias.copy_(shift)
    return plain * scale + shift


def _set_layer(
    student: Any, number: int, source: LayerModules, target: LayerStatistics, basis: Tensor, states: Tensor,
    batches: Sequence[TorchBatch],
) -> Tensor:  # fmt: skip
    """Set student layer `number`, from 1, on top of the states [n, d] below it, and return its output [n, d]."""
    layer, modules = encoder_layers(student)[number - 1], layer_modules(student)[number - 1]
    heads = int(student.config.num_attention_heads)
    _set_attention(modules, source, heads, least_squares(states, target.input), basis, states)
    context, target_middle = _attend(student, modules, states, batches), target.middle()
    middle = _set_output(
        modules.attention_out, modules.attention_norm, context, states, target.attention_sum @ basis,
        target_middle @ basis,
    )  # fmt: skip

    out = source.ffn_out.weight
    strength = target.energy.sum(0) * (basis.T @ out).square().sum(0)  # F'
    chosen = strength.topk(modules.ffn_in.out_features).indices.sort().values
    weight, bias = _compose(source.ffn_in, least_squares(middle, target_middle))
    _copy(modules.ffn_in, (weight[chosen], bias[chosen]))
    neurons = layer.get_submodule("intermediate")(middle)
    return _set_output(
        modules.ffn_out, modules.ffn_norm, neurons, middle, target.output_sum @ basis, target.output @ basis
    )


def _set_attention(
    modules: LayerModules, source: LayerModules, heads: int, to_teacher: Affine, basis: Tensor, states: Tensor
) -> None:
    """Set queries, keys and values of every head at the student's head width.

    Args:
        modules, source: of the student's layer and of the teacher's.
        heads: of both.
        to_teacher: the map from the student's states to the input of that teacher layer.
        basis: [D, d].
        states: [n, d].
    """
    narrow = modules.query.out_features // heads
    composed = [_compose(linear, to_teacher) for linear in (source.query, source.key, source.value)]
    out = basis.T @ source.attention_out.weight  # d, D
    inputs = Whitening(states)
    wide = composed[0][0].shape[0] // heads
    scale = (narrow / wide) ** 0.25  # the student divides by sqrt(narrow), the teacher by sqrt(wide)
    for head in range(heads):
        old, new = slice(head * wide, (head + 1) * wide), slice(head * narrow, (head + 1) * narrow)
        query, key, value = ((weight[old], bias[old]) for weight, bias in composed)
        query, key = low_rank_scores(query, key, inputs, narrow)
        value = low_rank_values(value, out[:, old], inputs, narrow)
        for module, (weight, bias), factor in (
            (modules.query, query, scale), (modules.key, key, scale), (modules.value, value, 1.0)
        ):  # fmt: skip
            module.weight[new], module.bias[new] = weight * factor, bias * factor


def _attend(student: Any, modules: LayerModules, states: Tensor, batches: Sequence[TorchBatch]) -> Tensor:
    """Compute the context vectors [n, d] of a student layer from its states [n, d]."""
    contexts, start, heads = [], 0, int(student.config.num_attention_heads)
    for batch in batches:
        mask = batch["attention_mask"].bool()
        count = int(mask.sum())
        padded = torch.zeros(*mask.shape, states.shape[1])
        padded[mask] = states[start : start + count]
        start += count
        query, key, value = (
            linear(padded).view(*mask.shape, heads, -1).transpose(1, 2)
            for linear in (modules.query, modules.key, modules.value)
        )
        visible, bias = mask[:, None, None, :], position_bias(student, mask.shape[1])
        if bias is not None:
            visible = bias.masked_fill(~visible, -torch.inf)  # B, A, L, L: the scores' summand
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        contexts.append(context.transpose(1, 2).reshape(padded.shape)[mask])
    return torch.cat(contexts)


def _set_output(
    dense: Any, norm: Any, features: Tensor, residual: Tensor, sum_target: Tensor, target: Tensor
) -> Tensor:
    """Fit a block's output matrix and norm, so that LN(features W^T + b + residual) comes closest to `target`.

    The first round fits the sum before the norm to the teacher's sum. Each later round fits it to the sum that the norm
    of the round before would map to `target`. The best round is kept.

    Args:
        dense, norm: the student's output matrix, and the norm behind it.
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
            _copy(dense, (weight, bias))
            _copy(norm, (scale, shift))
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
    pooler, _ = head_modules(student)
    pooler.weight.zero_()
    pooler.bias.zero_()
    pooler.weight[: len(chosen)], pooler.bias[: len(chosen)] = weight[chosen], bias[chosen]
    fit_classifier(student, first, logits)


def fit_classifier(student: Any, first: Tensor, logits: Tensor) -> None:
    """Set the last linear layer of a classifier, in place, to the least-squares solution for given logits.

    Args:
        student: its other weights stay.
        first: its last states of each row's first token, [rows, d].
        logits: to come close to, [rows, C].
    """
    pooler, classifier = head_modules(student)
    _copy(classifier, least_squares(torch.tanh(pooler(first)), logits))


def first_tokens(batches: Sequence[TorchBatch]) -> Tensor:
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
