"""Rounding: scales worked by hand, no saturation, and errors that the other weights make good."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.int8.rounding import (
    InverseHessian,
    check_saturation,
    gptq_channels,
    gptq_rows,
    quantize_channels,
    quantize_rows,
)
from toolkit.errors import ToolkitError

finite = st.floats(-100, 100, width=32)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=finite)


def test_channel_scales_by_hand() -> None:
    weight = np.array([[6.3, 0.0], [-3.1, 0.0], [0.04, 0.0]], dtype=np.float32)  # K = 3, N = 2
    quantized, scale = quantize_channels(weight)
    assert quantized.tolist() == [[63, 0], [-31, 0], [0, 0]]  # 0.04 / 0.1 = 0.4 rounds to 0
    assert scale == pytest.approx([0.1, 0.0], abs=1e-7)


def test_row_scales_by_hand() -> None:
    quantized, scale = quantize_rows(np.array([[1.27, -0.5, 0.0], [0.0, 0.0, -25.4]], dtype=np.float32))
    assert quantized.tolist() == [[127, -50, 0], [0, 0, -127]]
    assert scale.dtype == np.float16  # whose neighbours of 0.01 and 0.2 from above these are
    assert scale.astype(float).tolist() == [[0.01000213623046875], [0.2000732421875]]


@given(matrices)
def test_rounding_is_within_half_a_step(weight: np.ndarray) -> None:
    for quantize, limit in ((quantize_channels, 63), (quantize_rows, 127)):
        quantized, scale = quantize(weight)
        assert np.abs(quantized.astype(int)).max() <= limit
        scale = scale.astype(np.float32)
        assert (np.abs(quantized * scale - weight) <= scale * 0.5001 + 1e-30).all()


def column(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int8)[:, None]


def test_the_static_bound() -> None:
    assert check_saturation("layer", column(63, 63)) == {"max_weight": 63, "max_int16": 32130}
    assert check_saturation("layer", column(127, -127, 1)) == {"max_weight": 127, "max_int16": 255 * 128}
    assert check_saturation("layer", column(127, 0, 0, 0, 127)) == {"max_weight": 127, "max_int16": 255 * 127}
    for values in ((65, 64), (127, 2), (-128, -1), (-70, 3, 100, -70)):  # the last: first and fourth of one group
        with pytest.raises(ToolkitError, match=r"layer: weights can saturate: 255 \* \d+"):
            check_saturation("layer", column(*values))


def pairwise_int16(activation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x W as VPMADDUBSW makes it on AVX2: neighbouring products added in a saturating int16, then in int32."""
    products = activation[:, :, None].astype(np.int64) * weight[None].astype(np.int64)  # M K N
    pairs = products[:, 0::2] + products[:, 1::2]
    return pairs.clip(-32768, 32767).sum(axis=1)


def test_full_range_weights_saturate_and_ours_do_not() -> None:
    activation = np.full((1, 8), 255, dtype=np.uint8)
    full = np.full((8, 1), 127, dtype=np.int8)
    exact = 8 * 255 * 127
    assert pairwise_int16(activation, full).item() == 4 * 32767 < exact
    with pytest.raises(ToolkitError, match="saturate"):
        check_saturation("layer", full)
    ours, _ = quantize_channels(full.astype(np.float32))
    assert pairwise_int16(activation, ours).item() == 8 * 255 * 63
    ours, scale = gptq_channels(full.astype(np.float32), InverseHessian.of(np.eye(8)))
    assert ours.ravel().tolist() == [64] * 8
    assert scale == pytest.approx([127 / 64])
    assert pairwise_int16(activation, ours).item() == 8 * 255 * 64


@given(
    hnp.arrays(np.float32, (16, 3), elements=finite), hnp.arrays(np.float32, (20, 16), elements=finite),
    hnp.arrays(np.uint8, (4, 16)),
)  # fmt: skip
def test_compensated_weights_never_saturate(weight: np.ndarray, inputs: np.ndarray, activation: np.ndarray) -> None:
    quantized, _ = gptq_channels(weight, InverseHessian.of(inputs))
    assert check_saturation("layer", quantized)["max_int16"] <= 32767
    assert (pairwise_int16(activation, quantized) == activation.astype(int) @ quantized.astype(int)).all()


def test_uncorrelated_inputs_round_to_the_nearest() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    quantized, scale = gptq_channels(weight, InverseHessian.of(np.eye(40)))
    assert (quantized == np.rint(weight / scale)).all()


def test_one_error_made_good_by_hand() -> None:
    """Two inputs that are always equal: the first weight's error, 0.4 steps, goes to the second, 0.3 + 0.4 = 0.7."""
    weight = np.array([[127.0, 0.0], [0.0, 127.0], [0.4, 0.0], [0.3, 0.0]])[[2, 3, 0, 1]].astype(np.float32)
    inputs = np.array([[1, 1, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 0.1]], dtype=np.float32)
    quantized, scale = gptq_channels(weight, InverseHessian.of(inputs, damping=1e-9))
    assert scale == pytest.approx([1, 1], rel=0.01)  # 127.4 in two neighbours is within 128
    assert quantized[:2, 0].tolist() == [0, 1]
    assert np.rint(weight[:2, 0] / scale[0]).tolist() == [0, 0]


def correlated(rows: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, width // 8)) @ random.normal(size=(width // 8, width)) + 0.1 * random.normal(
        size=(rows, width)
    )


def test_outputs_change_less_than_by_rounding_to_the_nearest() -> None:
    weight = np.random.default_rng(1).normal(size=(96, 16)).astype(np.float32)
    inputs = correlated(500, 96, seed=2)
    quantized, scale = gptq_channels(weight, InverseHessian.of(inputs))
    nearest = np.rint(weight / scale) * scale
    unseen = correlated(500, 96, seed=2)[::-1] * 1.1

    def error(rounded: np.ndarray) -> float:
        return float(np.square(unseen @ (rounded - weight)).mean())

    assert error(quantized * scale) < 0.5 * error(nearest)


def test_four_bits_by_hand_and_by_gradients() -> None:
    table = np.array([[7.5, -7.5, 0.4, 0.6, -3.2, 0.0, 1.4, 7.0]], dtype=np.float32)
    codes = gptq_rows(table, np.ones((1, 1), dtype=np.float32), InverseHessian.of(np.eye(8)))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[15, 0, 8, 8, 4, 7, 9, 15]] or codes.tolist() == [[15, 0, 8, 8, 4, 8, 9, 14]]
    random = np.random.default_rng(3)
    table, gradients = random.normal(size=(50, 64)).astype(np.float32), correlated(300, 64, seed=4)
    scale = np.abs(table).max(axis=1, keepdims=True) / 7.5
    errors = [
        (gptq_rows(table, scale, InverseHessian.of(by, 0.1)) - 7.5) * scale - table for by in (np.eye(64), gradients)
    ]
    nearest, ours = (float(np.square(error @ gradients.T).mean()) for error in errors)
    assert ours < 0.5 * nearest
