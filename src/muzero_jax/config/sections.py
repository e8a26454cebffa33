"""The sections of the settings that every run has, whichever its agent. No JAX is imported."""

import dataclasses

from muzero_jax.core.checks import require, require_range, require_types

# As many as a float64 counts exactly, in which times and rates are worked out.
MOST_ENV_STEPS = 2**53


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
    """The task."""

    name: str = "catch"
    """Registry name (see `muzero list`), or module:factory of your own environment."""
    time_limit: int = 0
    """Steps after which an episode is truncated; 0 keeps the environment's own limit."""

    def __post_init__(self) -> None:
        require_types("environment", self)
        require(bool(self.name), "environment.name must not be empty.")
        require(
            self.name.isprintable() and len(self.name) <= 1_000,
            "environment.name must be at most 1,000 printable characters, found "
            f"{len(self.name):,}: {self.name[:60]!r}.",
        )
        require_range("environment", self, 0, None, "time_limit")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The actor-learner loop."""

    num_env_steps: int = 100_000
    """Environment steps of the whole run, over all environments; rounded up to whole chunks."""
    num_envs: int = 16
    """Environments that act in one batch."""
    rollout_length: int = 16
    """Steps of each environment between two phases of learning."""
    num_shards: int = 1
    """Parts that environments, replay and batch are divided into, each for a device where there are
    as many; gradients are averaged over them."""
    iterations_per_chunk: int = 8
    """Iterations [rollout, learn] in one compiled call; between calls the host logs and saves."""

    def __post_init__(self) -> None:
        require_types("training", self)
        require_range("training", self, 1, MOST_ENV_STEPS, "num_env_steps")
        names = ("num_envs", "rollout_length", "iterations_per_chunk")
        require_range("training", self, 1, None, *names, "num_shards")
        require(
            self.num_envs % self.num_shards == 0,
            f"training.num_envs ({self.num_envs}) cannot be divided among training.num_shards "
            f"({self.num_shards}).",
        )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Greedy evaluation over complete episodes: no root noise, no temperature."""

    interval: int = 10_000
    """Environment steps between evaluations during training; 0 evaluates only at the end."""
    num_episodes: int = 32
    """Complete episodes an evaluation during training."""
    final_num_episodes: int = 100
    """Complete episodes of the last evaluation."""
    num_envs: int = 32
    """Episodes that run at a time."""
    max_episode_steps: int = 10_000
    """Steps after which an episode is cut; it counts with its return so far, in `episodes_cut`."""
    observers: tuple[str, ...] = ()
    """What else an evaluation measures: module:factory, each called with environment and agent."""

    def __post_init__(self) -> None:
        require_types("evaluation", self)
        require_range("evaluation", self, 0, MOST_ENV_STEPS, "interval")
        names = ("num_episodes", "final_num_episodes", "num_envs")
        require_range("evaluation", self, 1, 1_000_000, *names)
        require_range("evaluation", self, 1, None, "max_episode_steps")


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
    """What a run leaves behind."""

    checkpoint_interval: int = 20_000
    """Environment steps between checkpoints; one is always written at the end and on a signal."""
    checkpoints_kept: int = 2
    """Newest checkpoints kept."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl (needs the extra `tensorboard`)."""
    wandb: bool = False
    """Send the metrics to Weights & Biases as well (needs the extra `wandb`)."""

    def __post_init__(self) -> None:
        require_types("logging", self)
        require_range("logging", self, 1, MOST_ENV_STEPS, "checkpoint_interval")
        require_range("logging", self, 1, None, "checkpoints_kept")
