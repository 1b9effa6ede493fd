"""Graphs that a bundle of unknown origin may hold, in ONNX's own text form."""

from __future__ import annotations

from tests.support.arithmetic_bundles import HEADER, INPUTS

# allocates 4 x 1,000,000,000 numbers, 16 GB, of a file of a few hundred bytes
SIXTEEN_GB = f"""{HEADER} ({INPUTS}) => (float[B, 1] logits) {{
    axis = Constant <value_ints = [1]> ()
    shape = Constant <value_ints = [4, 1000000000]> ()
    zeros = ConstantOfShape (shape)
    real = Mul (input_ids, attention_mask)
    total = ReduceSum <keepdims = 1> (real, axis)
    exact = Cast <to = 1> (total)
    nothing = ReduceSum <keepdims = 0> (zeros)
    logits = Add (exact, nothing)
}}"""
# runs a product 1,000,000,000,000 times
ENDLESS = f"""{HEADER} ({INPUTS}) => (float[B, 1] logits) {{
    axis = Constant <value_ints = [1]> ()
    shape = Constant <value_ints = [40, 40]> ()
    zeros = ConstantOfShape (shape)
    trips = Constant <value_int = 1000000000000> ()
    true = Constant <value_int = 1> ()
    going = Cast <to = 9> (true)
    last = Loop (trips, going, zeros) <body = step (int64 i, bool g, float[N, N] x) => (bool on, float[N, N] y) {{
        on = Identity (g)
        y = MatMul (x, x)
    }}>
    nothing = ReduceSum <keepdims = 0> (last)
    real = Mul (input_ids, attention_mask)
    total = ReduceSum <keepdims = 1> (real, axis)
    exact = Cast <to = 1> (total)
    logits = Add (exact, nothing)
}}"""
