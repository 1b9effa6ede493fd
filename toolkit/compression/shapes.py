"""The shapes that a student of a teacher may have, and those among them that are worth trying."""

from __future__ import annotations

import math
from collections.abc import Sequence

from toolkit.models.student import Shape

GRAIN = 16  # numbers that an int8 kernel takes at once: widths in between cost as much as the next multiple
FFN_GRAIN = 64
WIDTHS = 8  # widths of the grid at most
RATIOS = (2, 3, 4)  # of the feed-forward width to the hidden width; 4 is BERT's


def shape_grid(teacher: Shape) -> list[Shape]:
    """List the shapes that can be projected from a teacher: its heads, and nothing larger.

    Widths are multiples of the heads and of GRAIN, and the teacher's own; feed-forward widths are RATIOS of them.
    """
    step = math.lcm(teacher.heads, GRAIN)
    step *= math.ceil(teacher.hidden / step / WIDTHS)
    widths = sorted({*range(step, teacher.hidden, step), teacher.hidden})
    return [
        Shape(layers, width, ffn, teacher.heads)
        for layers in range(1, teacher.layers + 1) for width in widths
        for ffn in sorted({_ffn(width * ratio, teacher.ffn) for ratio in RATIOS})
    ]  # fmt: skip


def holds(large: Shape, small: Shape) -> bool:
    """Tell whether a shape is at least as large as another one in every respect, and is not that one."""
    pairs = ((large.layers, small.layers), (large.hidden, small.hidden), (large.ffn, small.ffn))
    return large != small and all(of_large >= of_small for of_large, of_small in pairs)


def largest(shapes: Sequence[Shape], most: int) -> list[Shape]:
    """Choose the `most` shapes that promise most: first those that no other one holds, then those that only they hold.

    A shape inside another one of the same budget can do nothing that the larger one cannot. Of a rank that is too long,
    shapes spread over its depths and widths are taken.
    """
    chosen: list[Shape] = []
    left = sorted(shapes, key=lambda shape: (shape.layers, shape.hidden, shape.ffn))
    while left and len(chosen) < most:
        rank = [shape for shape in left if not any(holds(other, shape) for other in left)]
        left = [shape for shape in left if shape not in rank]
        chosen += spread(rank, most - len(chosen))
    return chosen


def spread(shapes: Sequence[Shape], most: int) -> list[Shape]:
    """Take at most `most` of a list, evenly, its ends among them where there are two or more."""
    if len(shapes) <= most:
        return list(shapes)
    last = len(shapes) - 1
    return [shapes[round(number * last / max(1, most - 1))] for number in range(most)]


def linear_weights(shape: Shape) -> int:
    """Count the weights of the linear layers of an encoder: L (4 d^2 + 2 d F)."""
    return shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.ffn)


def _ffn(width: int, most: int) -> int:
    return min(math.ceil(width / FFN_GRAIN) * FFN_GRAIN, most)
