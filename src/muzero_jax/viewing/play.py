"""Watching a trained agent: greedy episodes to a GIF and to the terminal.

In a game of two players the agent plays both sides.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from muzero_jax.agents.base import Agent, Moment
from muzero_jax.core.stages import stage
from muzero_jax.core.types import PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec
from muzero_jax.runs.build import load_run
from muzero_jax.viewing.animation import Frame, write_gif
from muzero_jax.viewing.canvas import pillow
from muzero_jax.viewing.render import render_frame
from muzero_jax.viewing.render_text import render_text

# Of a whole animation, over all of its episodes.
_MAX_FRAMES = 150
_SECONDS_PER_EPISODE = 10.0
_LAST_FRAME_SECONDS = 1.5


@dataclasses.dataclass(frozen=True)
class Scene:
    """One moment of an episode, on the host.

    Attributes:
      moment: what the agent sees, unbatched.
      returns: `[P]` undiscounted return so far of each player.
    """

    moment: Moment
    returns: np.ndarray

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return int(self.moment.episode_step)

    @property
    def timestep(self) -> TimeStep:
        """What the environment gave, unbatched."""
        return self.moment.timestep


Episode = tuple[Scene, ...]


def play_run(
    run_dir: Path,
    *,
    episodes: int = 1,
    gif_path: Path | None = None,
    seed: int = 0,
    checkpoint: str = "",
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> list[Episode]:
    """Plays greedy episodes with a run's agent, shows them and writes a GIF.

    Args:
      run_dir: the run folder.
      episodes: how many, at least 1.
      gif_path: the GIF to write; `play.gif` in the run folder where None.
      seed: seed of everything random in the episodes.
      checkpoint: the checkpoint to use, see `load_run`.
      changes: settings that shall be others than in the run, see `load_run`.

    Returns:
      The episodes.

    Raises:
      RunError: it is not a run folder, or has no checkpoint that can be used.
      MissingExtraError: Pillow is not installed.
    """
    pillow("Image")
    run = load_run(run_dir, checkpoint, changes)
    stage("compiling and playing")
    played = play_episodes(
        run.env,
        run.agent,
        run.agent_state,
        episodes=episodes,
        max_episode_steps=run.config.evaluation.max_episode_steps,
        seed=seed,
    )
    console = Console()
    show_episodes(run.env.spec, played, console)
    out = gif_path or run_dir / "play.gif"
    write_episodes(run.env.spec, played, out)
    console.print(f"animation: {out}", highlight=False, soft_wrap=True)
    return played


def play_episodes(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    *,
    episodes: int,
    max_episode_steps: int,
    seed: int = 0,
) -> list[Episode]:
    """Plays greedily, from the first to the last moment of every episode.

    Args:
      env: the environment, without auto-reset.
      agent: the agent.
      agent_state: its state.
      episodes: how many, at least 1.
      max_episode_steps: an episode is broken off there.
      seed: seed of everything random.
    """
    reset = jax.jit(env.reset)

    @jax.jit
    def step(agent_state: PyTree, rng_key: PRNGKey, moment: Moment) -> Moment:
        act_key, env_key = jax.random.split(rng_key)
        output = agent.act_greedily(agent_state, act_key, batch_of_one(moment))
        action, memory = jax.tree.map(lambda x: x[0], (output.action, output.memory))
        env_state, timestep = env.step(env_key, moment.env_state, action)
        return Moment(timestep, memory, moment.episode_step + 1, env_state)

    def play(rng_key: PRNGKey) -> Episode:
        rng_key, reset_key = jax.random.split(rng_key)
        env_state, timestep = reset(reset_key)
        memory = jax.tree.map(lambda x: x[0], agent.init_memory(1))
        moment = Moment(timestep, memory, jnp.zeros((), jnp.int32), env_state)
        scenes = [Scene(_shown(moment), np.zeros(env.spec.num_players))]
        while len(scenes) <= max_episode_steps and not scenes[-1].timestep.last:
            rng_key, step_key = jax.random.split(rng_key)
            moment = step(agent_state, step_key, moment)
            shown = _shown(moment)
            scenes.append(Scene(shown, scenes[-1].returns + shown.timestep.reward))
        return tuple(scenes)

    return [play(key) for key in jax.random.split(jax.random.key(seed), episodes)]


def _shown(moment: Moment) -> Moment:
    """The moment with what is looked at on the host."""
    timestep, episode_step = jax.device_get((moment.timestep, moment.episode_step))
    shown: Moment = moment.replace(timestep=timestep, episode_step=episode_step)
    return shown


def batch_of_one(moment: Moment) -> Moment:
    """A moment of one environment as a batch `[1, ...]`."""
    batch: Moment = jax.tree.map(lambda x: x[None], moment)
    return batch


def show_episodes(spec: EnvironmentSpec, episodes: Sequence[Episode], console: Console) -> None:
    """Prints a line for each episode, after an animation of it where there is a terminal.

    Args:
      spec: description of the environment that was played.
      episodes: what to show, in this order.
      console: where to print.
    """
    for index, episode in enumerate(episodes):
        title = f"episode {index + 1}/{len(episodes)}"
        if console.is_terminal:
            _animate(spec, episode, title, console)
        console.print(f"{title}: {describe(episode)}", highlight=False, soft_wrap=True)


def write_episodes(spec: EnvironmentSpec, episodes: Sequence[Episode], out: Path) -> None:
    """Writes the episodes one after the other as a GIF; long ones leave steps out.

    Args:
      spec: description of the environment that was played.
      episodes: what to draw, in this order; at least one.
      out: the GIF, whose folder exists.

    Raises:
      MissingExtraError: Pillow is not installed.
    """
    max_frames = max(_MAX_FRAMES // len(episodes), 10)
    frames = []
    for index, episode in enumerate(episodes):
        prefix = f"episode {index + 1} · " if len(episodes) > 1 else ""
        for moment, seconds in _pace(episode, max_frames):
            picture = render_frame(spec, moment.timestep)
            left, right = f"{prefix}step {moment.step}", f"return {_format(moment.returns)}"
            frames.append(Frame(picture, left, right, seconds))
    write_gif(frames, out)


def describe(episode: Episode) -> str:
    """Says how an episode went: its return, its length, and how it ended."""
    last = episode[-1]
    ending = " (time limit)" if last.timestep.truncated else ""
    if not last.timestep.last:
        ending = " (broken off)"
    steps = "1 step" if last.step == 1 else f"{last.step} steps"
    return f"return {_format(last.returns)}, {steps}{ending}"


def _format(returns: np.ndarray) -> str:
    """The return, or those of both players."""
    return " : ".join(f"{value:.4g}" for value in returns)


def _pace(episode: Episode, max_frames: int) -> list[tuple[Scene, float]]:
    """Chooses at most about `max_frames` moments, the last among them, with their seconds."""
    stride = -(-len(episode) // max_frames)
    chosen = [*episode[:-1:stride], episode[-1]]
    seconds = float(np.clip(_SECONDS_PER_EPISODE / len(chosen), 0.06, 0.4))
    return [*((moment, seconds) for moment in chosen[:-1]), (chosen[-1], _LAST_FRAME_SECONDS)]


def _animate(spec: EnvironmentSpec, episode: Episode, title: str, console: Console) -> None:
    """Shows an episode in place, and takes it away again."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for moment, seconds in _pace(episode, _MAX_FRAMES):
            caption = f"{title}  step {moment.step}  return {_format(moment.returns)}"
            picture = Text(f"{render_text(spec, moment.timestep)}\n{caption}", no_wrap=True)
            live.update(picture, refresh=True)
            time.sleep(min(seconds, 0.4))
