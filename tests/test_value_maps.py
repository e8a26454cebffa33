"""Pictures of values, and the lines of studies."""

import numpy as np
import pytest

from muzero_jax.tabular.oracle.dynamic_programming import solve
from muzero_jax.tabular.processes.gridworld import maze_mdp
from muzero_jax.tabular.study_plots import (
    Line,
    Panel,
    draw_panels,
    median_line,
    quartiles,
)
from muzero_jax.tabular.value_maps import ValueMap, draw_value_map, text_map, value_map_image

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def small():
    mdp = maze_mdp("+-+-+\n|s|.|\n+ + +\n|. G|\n+-+-+", discount=0.5)
    solution = solve(mdp)
    return ValueMap("small", mdp.grid, solution.value, solution.optimal_actions)


def test_the_map_as_text(small):
    assert text_map(small, width=5).splitlines() == [
        "+------+------+",
        "|0.250↓|0.500↓|",
        "+      +      +",
        "|0.500→ 1.000G|",
        "+------+------+",
    ]


def test_maps_as_files_and_as_pictures(small, tmp_path):
    out = tmp_path / "deep" / "map.png"
    draw_value_map(small, out)
    assert out.read_bytes().startswith(PNG)
    low, high = (value_map_image([small, small], limits) for limits in ((0.0, 1.0), (-9.0, 1.0)))
    assert low.dtype == np.uint8 and low.shape == high.shape
    assert (low != high).any(), "the colours follow the limits"


def test_lines_over_seeds():
    samples = np.array([[1.0, 2.0], [3.0, 2.0], [np.inf, 5.0]])
    # Half of two samples do not exceed the lower one; three of four do not exceed the third.
    np.testing.assert_array_equal(quartiles(np.array([4.0, 2.0])), [2, 2, 4])
    np.testing.assert_array_equal(quartiles(np.array([4.0, 2.0, np.inf, 3.0])), [2, 3, 4])
    middle = median_line("a", np.arange(2), samples)
    np.testing.assert_array_equal(middle.y, [3, 2])
    np.testing.assert_array_equal(middle.band, [[1, 2], [np.inf, 5]])


def test_panels_are_drawn_with_what_is_finite(tmp_path):
    x = np.array([1.0, 2.0, 4.0])
    lines = [
        Line("a", x, np.array([1.0, np.inf, 3.0])),
        median_line("b", x, np.array([[1.0, 2.0, np.inf], [2.0, 3.0, np.inf], [1.0, 2.0, 3.0]])),
    ]
    panels = [
        Panel("linear", "x", "y", lines, (("level", 2.0),)),
        Panel("logarithmic", "x", "y", lines, log_x=True, log_y=True, markers=True),
    ]
    draw_panels(panels, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(PNG)
