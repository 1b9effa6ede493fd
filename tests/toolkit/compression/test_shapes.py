"""Grids of shapes worked out by hand, and the choice among them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolkit.compression.shapes import holds, largest, linear_weights, shape_grid, spread
from toolkit.models.student import Shape


def test_a_grid_has_widths_that_suit_heads_and_kernels() -> None:
    # lcm(12, 16) = 48; 2, 3 and 4 times 48 are 96, 144 and 192, in whole 64s 128, 192 and 192
    widths = {48: (128, 192), 96: (192, 320, 384)}
    shapes = [Shape(layers, width, ffn, 12) for layers in (1, 2) for width, row in widths.items() for ffn in row]
    assert shape_grid(Shape(2, 96, 384, 12)) == shapes


def test_a_grid_has_the_teacher_itself_and_nothing_larger() -> None:
    teacher = Shape(12, 768, 3072, 12)
    grid = shape_grid(teacher)
    assert teacher in grid
    assert not any(holds(shape, teacher) for shape in grid)
    assert len({shape.hidden for shape in grid}) <= 8
    assert shape_grid(Shape(1, 24, 48, 4)) == [Shape(1, 16, 48, 4), Shape(1, 24, 48, 4)]


def test_the_weights_of_tinybert4() -> None:
    assert linear_weights(Shape(4, 312, 1200, 12)) == 4 * (4 * 312 * 312 + 2 * 312 * 1200) == 4_552_704


def test_shapes_inside_others_come_after_them() -> None:
    deep, wide, inside, least = Shape(3, 16, 64, 4), Shape(1, 64, 128, 4), Shape(2, 16, 64, 4), Shape(1, 16, 64, 4)
    assert largest([least, inside, wide, deep], 2) == [wide, deep]
    assert largest([least, inside, wide, deep], 3) == [wide, deep, inside]
    assert largest([least, inside, wide, deep], 9) == [wide, deep, inside, least]


shape = st.builds(Shape, st.integers(1, 4), st.sampled_from([16, 32, 48]), st.sampled_from([64, 128]), st.just(4))


@given(st.sets(shape, min_size=1), st.integers(1, 6))
def test_no_shape_is_chosen_before_one_that_holds_it(shapes: set[Shape], most: int) -> None:
    chosen = largest(sorted(shapes, key=str), most)
    assert len(chosen) == len(set(chosen)) == min(most, len(shapes))
    for number, small in enumerate(chosen):
        assert not any(holds(later, small) for later in chosen[number:])


def test_a_spread_keeps_the_ends() -> None:
    row = [Shape(layers, 16, 64, 4) for layers in range(1, 10)]
    assert [shape.layers for shape in spread(row, 3)] == [1, 5, 9]
    assert spread(row, 1) == row[:1]
