import numpy as np
import pytest

from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.envs.registry import make_environment
from muzero_jax.viewing.canvas import Canvas
from muzero_jax.viewing.render import render_frame
from muzero_jax.viewing.render_text import braille, render_text

_BLUE, _ORANGE = np.array([0x00, 0x72, 0xB2]), np.array([0xD5, 0x5E, 0x00])


def spec_of(name, shape, dtype="float32"):
    return EnvironmentSpec(name, shape, dtype, num_actions=2)


def moment(observation, to_play=0):
    return make_timestep(np.asarray(observation), num_actions=2, to_play=to_play)


def columns_of(image, colour):
    """Columns of the pixels of exactly this colour."""
    return np.nonzero((image == colour).all(axis=-1))[1]


# --- canvas


def test_a_box_on_pixel_edges_is_sharp_and_one_between_them_is_half_covered():
    canvas = Canvas(4, 6, "#000000")
    canvas.box(1, 1, 3.5, 3, "#C8C8C8")
    expected = np.zeros((4, 6))
    expected[1:3, 1:3], expected[1:3, 3] = 200, 100
    np.testing.assert_array_equal(canvas.image()[..., 0], expected)


def test_shapes_cover_their_areas():
    disc, line = Canvas(60, 60, "#000000"), Canvas(60, 60, "#000000")
    disc.disc(30, 30, 20, "#646464")
    line.line([(10, 20), (40, 45)], 6, "#646464")
    covered = [canvas.image()[..., 0].sum() / 100 for canvas in (disc, line)]
    expected = np.pi * 20**2, np.hypot(30, 25) * 6 + np.pi * 3**2
    assert covered == pytest.approx(expected, rel=0.03)


def test_shapes_outside_of_the_image_are_cut_off():
    canvas = Canvas(8, 8, "#090909")
    canvas.disc(-50, 4, 3, "#000000")
    canvas.line([(100, 100), (200, 100)], 2, "#000000")
    assert (canvas.image() == 9).all()
    canvas.box(-10, -10, 4, 40, "#000000")
    assert (canvas.image()[:, :4] == 0).all() and (canvas.image()[:, 4:] == 9).all()


# --- frames


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CartPole-v1", (200, 320)),
        ("Acrobot-v1", (240, 240)),
        ("MountainCar-v0", (200, 320)),
        ("catch", (240, 120)),
        ("tic_tac_toe", (240, 240)),
        ("Breakout-MinAtar", (240, 240)),
        ("probe_observation_reward", (160, 240)),
    ],
)
def test_environments_have_pictures_of_one_size_that_move(name, shape):
    spec = make_environment(name).spec
    first, second = np.random.default_rng(0).random((2, *spec.observation_shape))
    if spec.observation_dtype == "bool":
        first, second = first > 0.7, second > 0.7
    moments = [moment(first), moment(second)]
    frames = [render_frame(spec, timestep) for timestep in moments]
    for frame in frames:
        assert frame.shape == (*shape, 3) and frame.dtype == np.uint8
    assert (frames[0] != frames[1]).any()
    texts = [render_text(spec, timestep) for timestep in moments]
    assert len({(len(text), text.count("\n")) for text in texts}) == 1


def test_the_cart_moves_right_and_the_pole_leans_right_with_positive_signs():
    spec = spec_of("gymnax:CartPole-v1", (4,))
    frames = [render_frame(spec, moment([x, 0, a, 0])) for x, a in ((0, 0), (1, 0), (0, 0.2))]
    upright, right, leaning = (columns_of(frame, _ORANGE).mean() for frame in frames)
    assert upright == pytest.approx(159.5, abs=1)
    assert right - upright == pytest.approx(52, abs=1)  # Pixels of a metre.
    assert leaning - upright == pytest.approx(50 * np.sin(0.2), abs=2)  # Half of the pole.


def test_acrobot_hangs_down_and_stands_up():
    spec = spec_of("Acrobot-v1", (6,))
    hanging = render_frame(spec, moment([1, 0, 1, 0, 0, 0]))
    standing = render_frame(spec, moment([-1, 0, 1, 0, 0, 0]))
    rows = [np.nonzero((frame == _ORANGE).all(axis=-1))[0].mean() for frame in (hanging, standing)]
    assert rows[0] > 180 and rows[1] < 60


def test_stones_keep_their_colour_whoever_is_to_move():
    spec = spec_of("tic_tac_toe", (3, 3, 2), "bool")
    own = np.zeros((3, 3), bool)
    other = own.copy()
    own[0, 0], other[2, 1] = True, True
    first = moment(np.stack([own, other], -1), to_play=0)
    second = moment(np.stack([other, own], -1), to_play=1)
    np.testing.assert_array_equal(render_frame(spec, first), render_frame(spec, second))
    assert render_text(spec, first) == render_text(spec, second) == "X . .\n. . .\n. O ."
    frame = render_frame(spec, first)
    assert columns_of(frame, _BLUE).max() < 80
    assert columns_of(frame, _ORANGE).min() > 80 and columns_of(frame, _ORANGE).max() < 160


def test_a_grid_shows_the_last_channel_that_is_on():
    grid = np.zeros((2, 2, 3), bool)
    grid[0, 0, 0], grid[0, 1, 1], grid[1, 1] = True, True, True
    spec, timestep = spec_of("some_grid", grid.shape, "bool"), moment(grid)
    assert render_text(spec, timestep) == "o @\n. #"
    frame = render_frame(spec, timestep)
    middles = frame[60::120, 60::120]
    assert len(np.unique(middles.reshape(-1, 3), axis=0)) == 4


def test_stored_pictures_are_shown_as_they_are():
    colours = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    frame = render_frame(spec_of("camera", (4, 4, 3), "uint8"), moment(colours))
    np.testing.assert_array_equal(frame[30::60, 30::60], colours)
    stack = np.arange(4 * 4 * 4, dtype=np.uint8).reshape(4, 4, 4)
    frame = render_frame(spec_of("frames", (4, 4, 4), "uint8"), moment(stack))
    np.testing.assert_array_equal(frame[30::60, 30::60, 1], stack[..., -1])


def test_vectors_become_bars_up_and_down_whatever_their_size():
    spec = spec_of("unknown", (3,))
    frame = render_frame(spec, moment([1e9, -1.0, np.nan]))
    above, below = frame[:78], frame[82:]
    assert columns_of(above, _BLUE).max() < 80 and not columns_of(below, _BLUE).size
    assert columns_of(below, _ORANGE).min() >= 80 and not columns_of(above, _ORANGE).size
    long = render_frame(spec_of("unknown", (500,)), moment(np.ones(500)))
    assert long.shape == (160, 256, 3)


# --- characters


def test_braille_dots_stand_where_the_ink_is():
    # Two characters: the left one has its upper right dot, the right one its lower left.
    image = np.full((4, 4, 3), 250, np.uint8)
    image[0, 1] = image[3, 2] = 0
    assert braille(image, 2) == chr(0x2800 + 0b00001000) + chr(0x2800 + 0b01000000)


def test_the_cart_is_drawn_in_braille():
    text = render_text(spec_of("CartPole-v1", (4,)), moment(np.zeros(4)), columns=40)
    lines = text.splitlines()
    assert {len(line) for line in lines} == {40} and len(lines) == 12
    assert all(0x2800 <= ord(character) < 0x2900 for line in lines for character in line)
    assert text.count(chr(0x2800)) < len(text) - 20
