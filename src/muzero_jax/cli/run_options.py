"""The options of the commands on runs. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Any

import tyro

from muzero_jax.config import ConfigError
from muzero_jax.core.checks import require_seed

_MOST_EPISODES = 100_000


def check_seed(seed: int) -> None:
    """Refuses a seed that JAX's random keys do not take.

    Raises:
      ConfigError: the seed is negative or has more than 32 bits.
    """
    require_seed("--seed", seed)


def check_episodes(episodes: int) -> None:
    """Refuses a number of episodes that cannot be played or kept.

    Raises:
      ConfigError: there are none, or too many.
    """
    if not 1 <= episodes <= _MOST_EPISODES:
        raise ConfigError(f"--episodes must be between 1 and {_MOST_EPISODES:,}, found {episodes}.")


@dataclasses.dataclass(frozen=True)
class ChangedEnvironment:
    """The environment, where it shall be another than the run's."""

    name: str = ""
    """Environment to play in, such as another variant of the run's; by default the run's own."""
    time_limit: int | None = None
    """Steps after which an episode is truncated; by default as in the run."""

    def changes(self) -> dict[str, Any]:
        """The settings that shall be others than in the run, by dotted name."""
        given = {"environment.name": self.name, "environment.time_limit": self.time_limit}
        return {name: value for name, value in given.items() if value not in ("", None)}


@dataclasses.dataclass(frozen=True)
class ChangedLimit:
    """How long an episode may be, where it shall be another length than in the run."""

    max_episode_steps: int | None = None
    """Steps after which an episode that has not ended is cut; by default as in the run."""

    def changes(self) -> dict[str, Any]:
        """The settings that shall be others than in the run, by dotted name."""
        given = {f"evaluation.{name}": value for name, value in vars(self).items()}
        return {name: value for name, value in given.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class ChangedEvaluation(ChangedLimit):
    """The evaluation, where it shall be another than the run's."""

    num_envs: int | None = None
    """Episodes that run at a time; by default as in the run."""


_Checkpoint = Annotated[str, tyro.conf.arg(metavar="STEP")]


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Plays complete greedy episodes, without noise, with a checkpoint of a run."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    environment: ChangedEnvironment = dataclasses.field(default_factory=ChangedEnvironment)
    evaluation: ChangedEvaluation = dataclasses.field(default_factory=ChangedEvaluation)
    checkpoint: _Checkpoint = ""
    """Checkpoint to use, by its number of environment steps, or best; the newest by default."""
    episodes: int = 100
    """Complete episodes."""
    acting: str = ""
    """Way of acting, for example prior; by default the one of the score of record, the first that
    the agent has."""
    seed: int = 0
    """Seed of the environments; the runs' own evaluations use others."""
    json: bool = False
    """Print one JSON object."""


@dataclasses.dataclass(frozen=True)
class PlayOptions:
    """Plays greedy episodes with a checkpoint of a run, in the terminal and to a GIF."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    environment: ChangedEnvironment = dataclasses.field(default_factory=ChangedEnvironment)
    evaluation: ChangedLimit = dataclasses.field(default_factory=ChangedLimit)
    checkpoint: _Checkpoint = ""
    """Checkpoint to use, by its number of environment steps, or best; the newest by default."""
    episodes: int = 1
    """Complete episodes."""
    gif: str = ""
    """GIF file to draw them to; by default play.gif in the run folder."""
    seed: int = 0
    """Seed of the environment."""


@dataclasses.dataclass(frozen=True)
class InspectOptions:
    """Draws the search tree of one decision of a greedy episode, and prints its numbers."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    step: int = 0
    """Step of the episode, from 0."""
    checkpoint: _Checkpoint = ""
    """Checkpoint to use, by its number of environment steps, or best; the newest by default."""
    seed: int = 0
    """Seed of the environment."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of the pictures; by default inspect/ in the run folder."""


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draws learning curves; runs that differ in their seeds only become one."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders."""
    out: str = "learning_curves.png"
    """PNG file."""


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Shows a sweep, finished or not, as one HTML page that opens without a network."""

    sweep: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SWEEP")]
    """Sweep folder."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """HTML file; by default report.html in the sweep folder."""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Lists experiments and environments."""
