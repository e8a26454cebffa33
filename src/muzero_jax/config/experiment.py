"""The settings of one run: its own sections, its agent, and the agent's settings."""

import dataclasses
from typing import Any

from muzero_jax.agents.definition import AgentDefinition, Sizes, unchanged
from muzero_jax.agents.registry import find_definition
from muzero_jax.config.sections import (
    EnvironmentConfig,
    EvaluationConfig,
    LoggingConfig,
    TrainingConfig,
)
from muzero_jax.core.checks import (
    LARGEST_INTEGER,
    require,
    require_name,
    require_seed,
    require_types,
)
from muzero_jax.core.dotted import flatten
from muzero_jax.core.settings import rebuild, to_plain, traced_values
from muzero_jax.replay.settings import ReplayConfig


@dataclasses.dataclass(frozen=True, init=False)
class ExperimentConfig:
    """One run: everything that decides its numbers, and what it writes.

    The sections of the agent's settings may be given beside those of the run, as in
    `ExperimentConfig(agent="muzero", search=SearchConfig(...), training=TrainingConfig(...))`, and
    `dataclasses.replace(config, search=...)` changes one of them.
    """

    name: str
    """Name of the experiment, used for the run folder."""
    seed: int
    """Seed of everything random in the run; the same seed repeats it bit for bit."""
    agent: str
    """The learner: a name (see `muzero list`), or module:definition of your own."""
    environment: EnvironmentConfig
    learner: Any
    """The settings of the agent, an instance of its definition's `settings`."""
    training: TrainingConfig
    evaluation: EvaluationConfig
    logging: LoggingConfig

    def __init__(self, **settings: Any):
        """Checks the settings, each by itself and all together.

        Args:
          **settings: fields of this class, each of which has a default, and fields of `learner`,
            which replace those that it has.

        Raises:
          ConfigError: a setting cannot work.
        """
        own: dict[str, Any] = {
            "name": "experiment",
            "seed": 0,
            "agent": "muzero",
            "learner": None,
            "environment": EnvironmentConfig(),
            "training": TrainingConfig(),
            "evaluation": EvaluationConfig(),
            "logging": LoggingConfig(),
        }
        own |= {name: settings.pop(name) for name in own if name in settings}
        require(isinstance(own["agent"], str), f"agent must be a string, found {own['agent']!r}.")
        own["learner"] = _learner_of(own["agent"], own["learner"], settings)
        for field, value in own.items():
            object.__setattr__(self, field, value)
        require_types("", self)
        require_name("name", self.name)
        require_seed("seed", self.seed)
        self._require_sizes()
        self._require_replay()
        self._require_shards()

    @property
    def definition(self) -> AgentDefinition:
        """The definition of the agent."""
        return find_definition(self.agent)

    @property
    def replay(self) -> ReplayConfig | None:
        """The settings of the replay; None for an agent that has none."""
        return getattr(self.learner, "replay", None)

    def sizes(self, average: Any = unchanged) -> Sizes:
        """The sizes with which the agent is built, whose `average` averages over shards."""
        training = self.training
        return Sizes(training.num_envs, training.rollout_length, self.num_updates, average)

    def _require_sizes(self) -> None:
        """Refuses products that the counters of a compiled program cannot hold."""
        require(
            self.env_steps_per_chunk <= LARGEST_INTEGER,
            f"training.num_envs ({self.training.num_envs}) times training.rollout_length "
            f"({self.training.rollout_length}) times training.iterations_per_chunk "
            f"({self.training.iterations_per_chunk}) makes {self.env_steps_per_chunk:,} "
            f"environment steps in a compiled call; at most {LARGEST_INTEGER:,} are possible.",
        )
        require(
            self.num_updates <= LARGEST_INTEGER,
            f"training.num_env_steps ({self.training.num_env_steps:,}) makes "
            f"{self.num_updates:,} updates; at most {LARGEST_INTEGER:,} are counted.",
        )

    def _require_replay(self) -> None:
        """Refuses a ring that holds no window, or too much before learning begins."""
        replay, num_envs = self.replay, self.training.num_envs
        if replay is None:
            return
        env_steps = self.env_steps_per_iteration
        require(
            self.num_updates_per_iteration >= 1,
            f"replay.ratio ({replay.ratio:g}) with replay.batch_size ({replay.batch_size}) gives "
            f"no update in an iteration of {env_steps} environment steps; raise the ratio to at "
            f"least {replay.batch_size / env_steps:g}.",
        )
        time_capacity = replay.capacity // num_envs
        needed = max(self._window_length, self.training.rollout_length)
        require(
            time_capacity >= needed,
            f"replay.capacity ({replay.capacity}) over training.num_envs ({num_envs}) keeps "
            f"{time_capacity} steps of each environment, but a window or rollout needs {needed}.",
        )
        require(
            self._steps_before_learning <= self.total_env_steps,
            f"training.num_env_steps ({self.training.num_env_steps}) ends before learning begins, "
            f"which takes {self._steps_before_learning} steps: replay.min_size ({replay.min_size}),"
            f" or a window of {self._window_length} steps in each of training.num_envs "
            f"({num_envs}).",
        )

    def _require_shards(self) -> None:
        """Refuses parts of a run that would not be equal, or have nothing to share."""
        num_shards, replay = self.training.num_shards, self.replay
        require(
            num_shards == 1 or self.definition.averages,
            f"training.num_shards must be 1 for the agent {self.agent}, found {num_shards}: the "
            "agent does not average its gradients over shards.",
        )
        batch_size = num_shards if replay is None else replay.batch_size
        require(
            batch_size % num_shards == 0,
            f"replay.batch_size ({batch_size}) cannot be divided among training.num_shards "
            f"({num_shards}).",
        )

    @property
    def _window_length(self) -> int:
        return getattr(self.learner, "window_length", 1)

    @property
    def _steps_before_learning(self) -> int:
        if self.replay is None:
            return 0
        num_envs = self.training.num_envs
        rows = max(self._window_length, -(-self.replay.min_size // num_envs))
        return rows * num_envs

    @property
    def env_steps_per_iteration(self) -> int:
        """Environment steps of one iteration [rollout, learn]."""
        return self.training.num_envs * self.training.rollout_length

    @property
    def env_steps_per_chunk(self) -> int:
        """Environment steps of one compiled call."""
        return self.env_steps_per_iteration * self.training.iterations_per_chunk

    @property
    def num_chunks(self) -> int:
        """Compiled calls of the whole run."""
        return -(-self.training.num_env_steps // self.env_steps_per_chunk)

    @property
    def total_env_steps(self) -> int:
        """Environment steps of the whole run: `training.num_env_steps` in whole chunks."""
        return self.num_chunks * self.env_steps_per_chunk

    @property
    def num_warm_up_chunks(self) -> int:
        """Compiled calls after which every iteration learns."""
        return -(-self._steps_before_learning // self.env_steps_per_chunk)

    @property
    def num_updates_per_iteration(self) -> int:
        """Updates of one iteration: by the replay ratio, rounded, or one for each rollout."""
        replay = self.replay
        if replay is None:
            return 1
        return round(replay.ratio * self.env_steps_per_iteration / replay.batch_size)

    @property
    def num_updates_per_chunk(self) -> int:
        """Updates of one compiled call, once learning has begun."""
        return self.training.iterations_per_chunk * self.num_updates_per_iteration

    @property
    def num_updates(self) -> int:
        """Upper bound of the updates of the whole run; the schedules end there."""
        return self.num_chunks * self.num_updates_per_chunk


def _learner_of(agent: str, learner: Any, changes: dict[str, Any]) -> Any:
    """The settings of an agent, its defaults where None, with some of their fields replaced."""
    settings = find_definition(agent).settings
    if learner is None:
        learner = settings()
    elif type(learner).__qualname__ == settings.__qualname__ and type(learner) is not settings:
        # The class is the same, but another import of its file made it.
        learner = rebuild(settings(), flatten(to_plain(learner)))
    require(
        isinstance(learner, settings),
        f"the agent {agent} needs settings of the type {settings.__name__}, found "
        f"{type(learner).__name__}.",
    )
    names = [field.name for field in dataclasses.fields(learner)]
    unknown = [name for name in changes if name not in names]
    require(
        not unknown,
        f"{settings.__name__} has no setting {', '.join(unknown)}; it has {', '.join(names)}.",
    )
    return dataclasses.replace(learner, **changes) if changes else learner


def traced_settings(config: ExperimentConfig) -> dict[str, float]:
    """The traced settings of a run's agent with their values, by dotted name."""
    return traced_values(config.learner)
