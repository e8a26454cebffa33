import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tiny import scripted_agent
from untrained_run import make_untrained_run

from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.viewing import play
from muzero_jax.viewing.animation import Frame, write_gif


def agent_of(policy):
    """An agent that acts by `policy(timestep) -> action`, batched, and refuses to explore."""

    def choose(rng_key, timestep, explore):
        assert not explore and timestep.observation.shape[0] == 1
        return policy(timestep)

    return scripted_agent(choose)


def chase(timestep):
    """Plays Catch well: towards the ball."""
    grid = timestep.observation[0, ..., 0]
    ball, paddle = jnp.argmax(grid[:-1].any(axis=0)), jnp.argmax(grid[-1])
    return (1 + jnp.sign(ball - paddle))[None]


def first_legal(timestep):
    return jnp.argmax(timestep.legal_action_mask, axis=-1)


def balance(timestep):
    """Keeps CartPole upright to the time limit."""
    return (timestep.observation @ jnp.array([0.05, 0.2, 1.0, 0.6])) > 0


def play_with(env, policy, episodes=1, **options):
    options = {"max_episode_steps": 1000, **options}
    return play.play_episodes(env, agent_of(policy), None, episodes=episodes, **options)


@pytest.fixture(scope="module")
def catch_episodes():
    return play_with(make_environment("catch"), chase, episodes=3)


def test_episodes_are_whole_and_greedy_and_start_apart(catch_episodes):
    for episode in catch_episodes:
        assert [moment.step for moment in episode] == list(range(10))
        assert [bool(moment.timestep.last) for moment in episode] == [False] * 9 + [True]
        assert [moment.returns.tolist() for moment in episode] == [[0.0]] * 9 + [[1.0]]
    balls = [np.argmax(episode[0].timestep.observation[0, :, 0]) for episode in catch_episodes]
    assert len(set(balls)) > 1


def test_the_seed_decides_the_episodes():
    def first_observations(seed):
        episodes = play_with(make_environment("CartPole-v1"), balance, 2, seed=seed, **short)
        return np.array([episode[-1].timestep.observation for episode in episodes])

    short = {"max_episode_steps": 3}
    np.testing.assert_array_equal(first_observations(0), first_observations(0))
    assert (first_observations(0) != first_observations(1)).any()


def test_both_sides_of_a_game_are_played():
    (episode,) = play_with(make_environment("tic_tac_toe"), first_legal)
    # X takes cells 0 2 4 6 and wins with 2 4 6.
    assert play.describe(episode) == "return 1 : -1, 7 steps"


def test_a_time_limit_and_a_broken_off_episode_are_told_apart():
    catch = make_environment("catch")
    (limited,) = play_with(TimeLimit(catch, 4), chase)
    assert play.describe(limited) == "return 0, 4 steps (time limit)"
    (broken,) = play_with(catch, chase, max_episode_steps=4)
    assert play.describe(broken) == "return 0, 4 steps (broken off)"


def test_without_a_terminal_there_is_one_line_for_each_episode(catch_episodes):
    out = io.StringIO()
    play.show_episodes(make_environment("catch").spec, catch_episodes, Console(file=out))
    assert out.getvalue().splitlines() == [
        f"episode {number}/3: return 1, 9 steps" for number in (1, 2, 3)
    ]


def test_in_a_terminal_the_episode_moves(catch_episodes, monkeypatch):
    pauses = []
    monkeypatch.setattr(play.time, "sleep", pauses.append)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=40, color_system=None)
    play.show_episodes(make_environment("catch").spec, catch_episodes[:1], console)
    assert len(pauses) == 10 and max(pauses) <= 0.4
    text = out.getvalue()
    assert all(f"step {step}  return" in text for step in range(10))
    assert ". o . . ." in text or ". . . o ." in text or "o . . . ." in text
    assert text.rstrip().endswith("episode 1/1: return 1, 9 steps")


def test_a_long_episode_becomes_a_small_gif_that_ends_with_its_last_moment(tmp_path):
    env = make_environment("CartPole-v1")
    episodes = play_with(env, balance)
    assert play.describe(episodes[0]) == "return 500, 500 steps (time limit)"
    out = tmp_path / "new" / "play.gif"
    play.write_episodes(env.spec, episodes, out)
    assert out.stat().st_size < 500_000
    with Image.open(out) as gif:
        assert 100 <= gif.n_frames <= 150 and gif.size == (320, 226)
        assert gif.info["loop"] == 0
        seconds = []
        for index in range(gif.n_frames):
            gif.seek(index)
            seconds.append(gif.info["duration"] / 1000)
        assert seconds[-1] == 1.5 and sum(seconds) == pytest.approx(10, abs=3)


def test_every_moment_of_short_episodes_is_in_the_gif(tmp_path, catch_episodes):
    play.write_episodes(make_environment("catch").spec, catch_episodes, tmp_path / "play.gif")
    with Image.open(tmp_path / "play.gif") as gif:
        assert gif.n_frames == 30
        gif.seek(9)
        assert gif.info["duration"] == 1500


def test_captions_and_pictures_keep_their_places(tmp_path):
    image = np.zeros((40, 300, 3), np.uint8)
    image[:, 150:] = (255, 0, 0)
    frames = [Frame(image, "left", text, 0.1) for text in ("1", "2")]
    write_gif(frames, tmp_path / "play.gif")
    with Image.open(tmp_path / "play.gif") as gif:
        assert gif.size == (300, 66)
        pixels = np.asarray(gif.convert("RGB"))
    assert (pixels[:40, :150] == 0).all() and (pixels[:40, 150:, 0] == 255).all()
    is_text = (pixels[40:] < 128).all(axis=-1)
    assert is_text[:, :60].any() and is_text[:, 270:].any() and not is_text[:, 60:270].any()


def test_frames_of_different_sizes_are_refused(tmp_path):
    frames = [Frame(np.zeros((size, 8, 3), np.uint8), "", "", 0.1) for size in (8, 9)]
    with pytest.raises(ValueError, match="one shape"):
        write_gif(frames, tmp_path / "play.gif")
    with pytest.raises(ValueError, match=r"found \[\]"):
        write_gif([], tmp_path / "play.gif")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_untrained_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_a_run_is_played_from_its_checkpoint(run_dir, capsys):
    first = play.play_run(run_dir, episodes=2, seed=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("episode 1/2: return ")
    assert lines[2] == f"animation: {run_dir / 'play.gif'}"
    with Image.open(run_dir / "play.gif") as gif:
        assert gif.n_frames == 20
    assert [moment.step for moment in first[1]] == list(range(10))


def test_the_gif_goes_where_it_is_asked_for(run_dir, tmp_path):
    play.play_run(run_dir, gif_path=tmp_path / "new" / "catch.gif")
    assert (tmp_path / "new" / "catch.gif").stat().st_size < 50_000
