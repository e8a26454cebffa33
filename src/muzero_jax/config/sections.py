"""The sections of the settings that every run has, whichever its agent. No JAX is imported."""

import dataclasses

from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded

# As many as a float64 counts exactly, in which times and rates are worked out.
MOST_ENV_STEPS = 2**53


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig(Section, name="environment"):
    """The task."""

    name: str = "catch"
    """Registry name (see `muzero list`), or module:factory of your own environment."""
    time_limit: int = bounded(0, 0)
    """Steps after which an episode is truncated; 0 keeps the environment's own limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.name), "environment.name must not be empty.")
        require(
            self.name.isprintable() and len(self.name) <= 1_000,
            "environment.name must be at most 1,000 printable characters, found "
            f"{len(self.name):,}: {self.name[:60]!r}.",
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Section, name="training"):
    """The actor-learner loop."""

    num_env_steps: int = bounded(100_000, 1, MOST_ENV_STEPS)
    """Environment steps of the whole run, over all environments; rounded up to whole chunks."""
    num_envs: int = bounded(16, 1)
    """Environments that act in one batch."""
    rollout_length: int = bounded(16, 1)
    """Steps of each environment between two phases of learning."""
    num_shards: int = bounded(1, 1)
    """Parts that environments, replay and batch are divided into, each for a device where there are
    as many; gradients are averaged over them."""
    iterations_per_chunk: int = bounded(8, 1)
    """Iterations [rollout, learn] in one compiled call; between calls the host logs and saves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_envs % self.num_shards == 0,
            f"training.num_envs ({self.num_envs}) cannot be divided among training.num_shards "
            f"({self.num_shards}).",
        )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Section, name="evaluation"):
    """Greedy evaluation over complete episodes: no root noise, no temperature."""

    interval: int = bounded(10_000, 0, MOST_ENV_STEPS)
    """Environment steps between evaluations during training; 0 evaluates only at the end."""
    num_episodes: int = bounded(32, 1, 1_000_000)
    """Complete episodes an evaluation during training."""
    final_num_episodes: int = bounded(100, 1, 1_000_000)
    """Complete episodes of each evaluation at the end: of the score of record, of the last
    parameters where the agent averages, and of the best agent."""
    num_envs: int = bounded(32, 1, 1_000_000)
    """Episodes that run at a time."""
    max_episode_steps: int = bounded(10_000, 1)
    """Steps after which an episode is cut; it counts with its return so far, in `episodes_cut`."""
    observers: tuple[str, ...] = ()
    """What else an evaluation measures: module:factory, each called with environment and agent."""


@dataclasses.dataclass(frozen=True)
class LoggingConfig(Section, name="logging"):
    """What a run leaves behind."""

    checkpoint_interval: int = bounded(20_000, 1, MOST_ENV_STEPS)
    """Environment steps between checkpoints; one is always written at the end and on a signal."""
    checkpoints_kept: int = bounded(2, 1)
    """Newest checkpoints kept."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl (needs the extra `tensorboard`)."""
    wandb: bool = False
    """Send the metrics to Weights & Biases as well (needs the extra `wandb`)."""
