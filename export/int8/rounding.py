"""Rounding of float32 matrices to int8 and scales: to the nearest, or by GPTQ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.errors import ToolkitError

WEIGHT_LIMIT = 63
TABLE_LIMIT = 127
INT16_MAX = 32_767
HALF_LEVELS = 7.5  # 16 levels, half of them on each side of zero
GROUP = 4  # inputs whose weights kernels pack together
PAIR_LIMIT = INT16_MAX // 255  # the largest sum of two weights whose products with a uint8 fit int16
SMALLEST = 1e-20  # the least maximum of a row: a row of zeros is 0 / scale, not 0 / 0
DAMPING = 0.01  # makes the Hessian invertible where an input never varies
BLOCK = 32  # inputs between two updates of all later inputs: the same result in fewer passes over W


def channel_scales(weight: np.ndarray) -> np.ndarray:
    """Return s [N] of W [K, N]: the largest |weight| of an output channel is 63 steps."""
    return _scales(weight, axis=0, limit=WEIGHT_LIMIT)


def quantize_channels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round W [K, N] to int8 within +-63, W ~ q s: q [K, N] and s [N], one scale an output channel."""
    scale = channel_scales(weight)
    return _nearest(weight / scale, WEIGHT_LIMIT), scale


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round E [V, D] to int8 within +-127, E ~ q s: q [V, D] and s [V, 1], one scale a row in half precision."""
    scale = half_scales(_scales(table, axis=1, limit=TABLE_LIMIT)[:, None])
    return _nearest(table / scale.astype(np.float32), TABLE_LIMIT), scale


def half_scales(scale: np.ndarray) -> np.ndarray:
    """Round scales up to half precision, so that no number of a row leaves its range."""
    half = scale.astype(np.float16)
    return np.where(half.astype(np.float32) < scale, np.nextafter(half, np.float16(np.inf)), half)


@dataclass(frozen=True)
class InverseHessian:
    """The inverse Hessian of a layer's squared output error, of its inputs X [T, K].

    Attributes:
        order: inputs by falling second moment. The first inputs are rounded first, while most others can compensate.
        factor: upper triangular U [K, K] with U^T U = (X^T X / T + damping)^-1, in that order.
    """

    order: np.ndarray
    factor: np.ndarray

    @staticmethod
    def of(inputs: np.ndarray, damping: float = DAMPING) -> InverseHessian:
        """Compute it from X [T, K]; `damping` times the mean second moment is added to each second moment."""
        rows = inputs.astype(np.float64)
        moment = rows.T @ rows / len(rows)
        order = np.argsort(-np.diag(moment), kind="stable")
        moment[np.diag_indices_from(moment)] += max(damping * float(np.diag(moment).mean()), SMALLEST)
        return InverseHessian(order, np.linalg.cholesky(np.linalg.inv(moment[order][:, order])).T)


def gptq_channels(weight: np.ndarray, inverse_hessian: InverseHessian) -> tuple[np.ndarray, np.ndarray]:
    """Round W [K, N] to int8 by GPTQ, one scale an output channel, so that no sum of two products saturates.

    In each group of four inputs, any two weights of one sign sum to at most 128. That allows smaller steps than
    limiting all weights to +-63.

    Returns:
        q [K, N] and s [N].
    """
    scale = _paired_scales(weight)
    largest = np.zeros((2, len(weight) // GROUP + 1, weight.shape[1]))  # of each group so far, by sign

    def nearest(k: int, steps: np.ndarray) -> np.ndarray:
        above, below = largest[:, k // GROUP]
        lowest, highest = np.maximum(below - PAIR_LIMIT, -TABLE_LIMIT), np.minimum(PAIR_LIMIT - above, TABLE_LIMIT)
        rounded = np.rint(steps).clip(lowest, highest)
        np.maximum(above, rounded, out=above)
        np.maximum(below, -rounded, out=below)
        return np.asarray(rounded)

    return np.asarray(_gptq(weight / scale, inverse_hessian, nearest).astype(np.int8)), scale


def gptq_rows(
    table: np.ndarray, scale: np.ndarray, inverse_hessian: InverseHessian, half_levels: float = HALF_LEVELS
) -> np.ndarray:
    """Round E [V, D] to 16 levels a number by GPTQ, E ~ s (q - 7.5).

    Args:
        table: E [V, D].
        scale: s [V, 1]; numbers beyond 7.5 steps are clipped.
        inverse_hessian: of the gradients of the model's outputs by E's rows, so that the outputs change least.
        half_levels: 7.5 for 16 levels, 1.5 for 4.

    Returns:
        q [V, D] uint8.
    """

    def nearest(_k: int, steps: np.ndarray) -> np.ndarray:
        return np.asarray((np.rint(steps - 0.5) + 0.5).clip(-half_levels, half_levels))

    steps = table / np.maximum(scale, SMALLEST)
    return np.asarray((_gptq(steps.T, inverse_hessian, nearest).T + half_levels).astype(np.uint8))


def _gptq(
    steps: np.ndarray, inverse_hessian: InverseHessian, nearest: Callable[[int, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Round the rows of W [K, N], given in steps, in turn, so that later rows compensate each error.

    This is algorithm 1 of GPTQ (arXiv 2210.17323). An error is spread over the inputs that are not rounded yet, by
    their correlation with its input in X.
    """
    rest = steps.astype(np.float64)[inverse_hessian.order]
    rounded = np.empty_like(rest)
    for start in range(0, len(rest), BLOCK):
        stop = min(start + BLOCK, len(rest))
        errors = np.empty((stop - start, rest.shape[1]))
        for k in range(start, stop):
            rounded[k] = nearest(int(inverse_hessian.order[k]), rest[k])
            errors[k - start] = (rest[k] - rounded[k]) / inverse_hessian.factor[k, k]
            rest[k + 1 : stop] -= np.outer(inverse_hessian.factor[k, k + 1 : stop], errors[k - start])
        rest[stop:] -= inverse_hessian.factor[start:stop, stop:].T @ errors
    in_place = np.empty_like(rounded)
    in_place[inverse_hessian.order] = rounded
    return np.asarray(in_place)


def check_saturation(name: str, weight: np.ndarray) -> dict[str, int]:
    """Compute the largest int16 sum that uint8 activations and int8 weights [K, N] can give.

    It is 255 times the largest sum of two weights of one sign in a group of four inputs: VPMADDUBSW adds the products
    of two neighbours, and kernels pack four inputs together.

    Raises:
        ToolkitError: the sum exceeds 32,767, so AVX2 without VNNI would give other answers.
    """
    pair = int(_pair_sums(weight).max())
    worst = 255 * pair
    if worst > INT16_MAX:
        raise ToolkitError(
            f"{name}: weights can saturate: 255 * {pair} = {worst:,} is above {INT16_MAX:,}",
            expected=f"two neighbouring weights of one sign with a sum of {PAIR_LIMIT} at most",
        )
    return {"max_weight": int(np.abs(weight.astype(np.int32)).max()), "max_int16": worst}


def _pair_sums(weight: np.ndarray) -> np.ndarray:
    """Return the largest |sum| of two values of one sign in each group of four rows, [K / 4, N] of [K, N]."""
    padded = np.pad(weight.astype(np.float64), ((0, -len(weight) % GROUP), (0, 0)))
    groups = np.sort(padded.reshape(-1, GROUP, weight.shape[1]), axis=1)  # G 4 N
    return np.asarray(np.maximum(groups[:, -2:].clip(min=0).sum(axis=1), -groups[:, :2].clip(max=0).sum(axis=1)))


def _paired_scales(weight: np.ndarray) -> np.ndarray:
    """Return the smallest s [N] at which no weight exceeds 127 steps and no two of a group exceed 128."""
    single = np.abs(weight).max(axis=0) / TABLE_LIMIT
    return np.asarray(
        np.maximum(np.maximum(single, _pair_sums(weight).max(axis=0) / PAIR_LIMIT), SMALLEST).astype(np.float32)
    )


def _scales(values: np.ndarray, axis: int, limit: int) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(values).max(axis=axis), SMALLEST).astype(np.float32) / np.float32(limit))


def _nearest(steps: np.ndarray, limit: int) -> np.ndarray:
    return np.asarray(np.rint(steps).clip(-limit, limit).astype(np.int8))
