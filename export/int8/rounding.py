"""Float32 matrices to int8 and their scales: to the nearest, or so that one weight's error is made good by the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolkit.errors import ToolkitError

WEIGHT_LIMIT = 63
TABLE_LIMIT = 127
INT16_MAX = 32_767
HALF_LEVELS = 7.5  # 16 levels, half of them on each side of zero
GROUP = 4  # inputs whose weights kernels pack side by side
PAIR_LIMIT = INT16_MAX // 255
SMALLEST = 1e-20  # stands in for the maximum of a row of zeros: 0 / scale must not be 0 / 0
DAMPING = 0.01  # inputs that calibration never moved stay solvable
BLOCK = 32  # inputs rounded between two updates of all later ones: the same result, in fewer passes over W


def channel_scales(weight: np.ndarray) -> np.ndarray:
    """s [N] of W [K, N]: the largest |weight| of an output channel is 63 steps."""
    return _scales(weight, axis=0, limit=WEIGHT_LIMIT)


def quantize_channels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round W [K, N] to int8 within +-63, W ~ q s: q [K, N] and s [N], one scale an output channel."""
    scale = channel_scales(weight)
    return _nearest(weight / scale, WEIGHT_LIMIT), scale


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round E [V, K] to int8 within +-127, E ~ q s: q [V, K] and s [V, 1], one scale a row in half precision."""
    scale = half_scales(_scales(table, axis=1, limit=TABLE_LIMIT)[:, None])
    return _nearest(table / scale.astype(np.float32), TABLE_LIMIT), scale


def half_scales(scale: np.ndarray) -> np.ndarray:
    """Scales in half precision, rounded up, so that no number of a row leaves its range."""
    half = scale.astype(np.float16)
    return np.where(half.astype(np.float32) < scale, np.nextafter(half, np.float16(np.inf)), half)


@dataclass(frozen=True)
class InverseHessian:
    """What rounding has to know of a layer's inputs X [T, K].

    Attributes:
        order: inputs by falling second moment: those that count most are rounded while most others can make it good.
        factor: upper triangular U [K, K] with U^T U = (X^T X / T + damping)^-1, in that order.
    """

    order: np.ndarray
    factor: np.ndarray

    @staticmethod
    def of(inputs: np.ndarray, damping: float = DAMPING) -> InverseHessian:
        """From X [T, K]; `damping`, a share of the mean second moment, is added to each."""
        rows = inputs.astype(np.float64)
        moment = rows.T @ rows / len(rows)
        order = np.argsort(-np.diag(moment), kind="stable")
        moment[np.diag_indices_from(moment)] += max(damping * float(np.diag(moment).mean()), SMALLEST)
        return InverseHessian(order, np.linalg.cholesky(np.linalg.inv(moment[order][:, order])).T)


def gptq_channels(weight: np.ndarray, moments: InverseHessian) -> tuple[np.ndarray, np.ndarray]:
    """Round W [K, N] to int8, one scale an output channel, so that X W changes least and no sum can saturate.

    Instead of all weights to +-63, any two of one sign among four inputs that stand together are held to a sum of 128,
    which serves the same end with smaller steps.

    Returns:
        q [K, N] and s [N].
    """
    scale = _paired_scales(weight)
    taken = np.zeros((2, len(weight) // GROUP + 1, weight.shape[1]))  # the largest of a group so far, by sign

    def nearest(k: int, steps: np.ndarray) -> np.ndarray:
        above, below = taken[:, k // GROUP]
        lowest, highest = np.maximum(below - PAIR_LIMIT, -TABLE_LIMIT), np.minimum(PAIR_LIMIT - above, TABLE_LIMIT)
        found = np.rint(steps).clip(lowest, highest)
        np.maximum(above, found, out=above)
        np.maximum(below, -found, out=below)
        return np.asarray(found)

    return np.asarray(_compensate(weight / scale, moments, nearest).astype(np.int8)), scale


def gptq_rows(
    table: np.ndarray, scale: np.ndarray, moments: InverseHessian, half_levels: float = HALF_LEVELS
) -> np.ndarray:
    """Round E [V, K] to 16 levels a number, E ~ s (q - 7.5), so that what follows changes least: q [V, K] uint8.

    Args:
        table: E [V, K].
        scale: s [V, 1]; numbers beyond 7.5 steps are cut to these.
        moments: of the gradients of the model's outputs by E's rows, which tell errors that matter from others.
        half_levels: 7.5 for 16 levels, 1.5 for 4.
    """

    def nearest(_k: int, steps: np.ndarray) -> np.ndarray:
        return np.asarray((np.rint(steps - 0.5) + 0.5).clip(-half_levels, half_levels))

    steps = table / np.maximum(scale, SMALLEST)
    return np.asarray((_compensate(steps.T, moments, nearest).T + half_levels).astype(np.uint8))


def _compensate(
    steps: np.ndarray, moments: InverseHessian, nearest: Callable[[int, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Round rows of W [K, N], in steps, one after the other, and let those that follow make good each one's error.

    An error is spread over the inputs not rounded yet as far as these go along with it in X (GPTQ, arXiv 2210.17323,
    algorithm 1).
    """
    rest = steps.astype(np.float64)[moments.order]
    rounded = np.empty_like(rest)
    for start in range(0, len(rest), BLOCK):
        stop = min(start + BLOCK, len(rest))
        errors = np.empty((stop - start, rest.shape[1]))
        for k in range(start, stop):
            rounded[k] = nearest(int(moments.order[k]), rest[k])
            errors[k - start] = (rest[k] - rounded[k]) / moments.factor[k, k]
            rest[k + 1 : stop] -= np.outer(moments.factor[k, k + 1 : stop], errors[k - start])
        rest[stop:] -= moments.factor[start:stop, stop:].T @ errors
    found = np.empty_like(rounded)
    found[moments.order] = rounded
    return np.asarray(found)


def check_saturation(name: str, weight: np.ndarray) -> dict[str, int]:
    """The largest int16 sum that uint8 activations can make of int8 weights [K, N].

    That is 255 times the largest sum of two weights of one sign among four inputs that stand together: VPMADDUBSW adds
    the products of two neighbours, and kernels pack four inputs side by side.

    Raises:
        ToolkitError: it exceeds 32,767, so that AVX2 without VNNI would give other answers.
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
    """The largest |sum| of two values of one sign out of four rows that stand together: [K, N] to [K / 4, N]."""
    padded = np.pad(weight.astype(np.float64), ((0, -len(weight) % GROUP), (0, 0)))
    groups = np.sort(padded.reshape(-1, GROUP, weight.shape[1]), axis=1)  # G 4 N
    return np.asarray(np.maximum(groups[:, -2:].clip(min=0).sum(axis=1), -groups[:, :2].clip(max=0).sum(axis=1)))


def _paired_scales(weight: np.ndarray) -> np.ndarray:
    """s [N]: the smallest at which no weight exceeds 127 steps and no two of a group 128."""
    single = np.abs(weight).max(axis=0) / TABLE_LIMIT
    return np.asarray(
        np.maximum(np.maximum(single, _pair_sums(weight).max(axis=0) / PAIR_LIMIT), SMALLEST).astype(np.float32)
    )


def _scales(values: np.ndarray, axis: int, limit: int) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(values).max(axis=axis), SMALLEST).astype(np.float32) / np.float32(limit))


def _nearest(steps: np.ndarray, limit: int) -> np.ndarray:
    return np.asarray(np.rint(steps).clip(-limit, limit).astype(np.int8))
