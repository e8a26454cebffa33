"""The settings of one run: its own sections, its agent, and the agent's settings."""

import dataclasses
from typing import Any

from muzero_jax.agents.definition import AgentDefinition, ChunkSizes, Sizes, unchanged
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

    def __init__(
        self,
        *,
        name: str = "experiment",
        seed: int = 0,
        agent: str = "muzero",
        environment: EnvironmentConfig | None = None,
        learner: Any = None,
        training: TrainingConfig | None = None,
        evaluation: EvaluationConfig | None = None,
        logging: LoggingConfig | None = None,
        **learner_settings: Any,
    ):
        """Checks the settings, each by itself and all together.

        Args:
          name: see the attribute.
          seed: see the attribute.
          agent: see the attribute.
          environment: the task; the default one where None.
          learner: the settings of the agent; its defaults where None.
          training: the loop's sizes; the default ones where None.
          evaluation: how the agent is evaluated; the defaults where None.
          logging: what the run leaves behind; the defaults where None.
          **learner_settings: fields of `learner`, which replace those that it has.

        Raises:
          ConfigError: a setting cannot work.
        """
        values = {
            "name": name,
            "seed": seed,
            "agent": agent,
            "environment": environment or EnvironmentConfig(),
            "training": training or TrainingConfig(),
            "evaluation": evaluation or EvaluationConfig(),
            "logging": logging or LoggingConfig(),
        }
        require(isinstance(agent, str), f"agent must be a string, found {agent!r}.")
        definition = find_definition(agent)
        if learner is None:
            learner = definition.settings()
        elif type(learner).__qualname__ == definition.settings.__qualname__:
            learner = _of_type(definition.settings, learner)
        for field, value in {**values, "learner": _changed(learner, learner_settings)}.items():
            object.__setattr__(self, field, value)
        require_types("", self)
        require(
            isinstance(learner, definition.settings),
            f"the agent {agent} needs settings of the type {definition.settings.__name__}, found "
            f"{type(learner).__name__}.",
        )
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
        """The sizes with which the agent is built.

        Args:
          average: averages gradients and metrics over shards.
        """
        training = self.training
        return Sizes(training.num_envs, training.rollout_length, self.num_updates, average)

    def chunk_sizes(self) -> ChunkSizes:
        """How much work one compiled chunk is."""
        training = self.training
        return ChunkSizes(
            training.num_envs,
            training.rollout_length,
            training.iterations_per_chunk,
            self.num_updates_per_iteration,
        )

    def _require_replay(self) -> None:
        """Refuses a ring that holds no window, or too much before learning begins."""
        replay = self.replay
        if replay is None:
            return
        require(
            self.num_updates_per_iteration >= 1,
            f"replay.ratio ({replay.ratio:g}) with replay.batch_size "
            f"({replay.batch_size}) gives no update in an iteration of "
            f"{self.env_steps_per_iteration} environment steps; raise the ratio to at least "
            f"{replay.batch_size / self.env_steps_per_iteration:g}.",
        )
        time_capacity = replay.capacity // self.training.num_envs
        needed = max(self._window_length, self.training.rollout_length)
        require(
            time_capacity >= needed,
            f"replay.capacity ({replay.capacity}) over training.num_envs "
            f"({self.training.num_envs}) keeps {time_capacity} steps of each environment, "
            f"but a window or rollout needs {needed}.",
        )
        require(
            self._steps_before_learning <= self.total_env_steps,
            f"training.num_env_steps ({self.training.num_env_steps}) ends before learning begins, "
            f"which takes {self._steps_before_learning} steps: replay.min_size "
            f"({replay.min_size}), or a window of {self._window_length} steps in each of "
            f"training.num_envs ({self.training.num_envs}).",
        )

    def _require_shards(self) -> None:
        """Refuses parts of a run that would not be equal, or have nothing to share."""
        num_shards = self.training.num_shards
        require(
            num_shards == 1 or self.definition.averages,
            f"training.num_shards must be 1 for the agent {self.agent}, found {num_shards}: the "
            "agent does not average its gradients over shards.",
        )
        require(
            self.replay is None or self.replay.batch_size % num_shards == 0,
            f"replay.batch_size ({self.replay and self.replay.batch_size}) cannot be divided among "
            f"training.num_shards ({num_shards}).",
        )

    def _require_sizes(self) -> None:
        """Refuses products that the counters of a compiled program cannot hold."""
        require(
            self.env_steps_per_chunk <= LARGEST_INTEGER,
            f"training.num_envs ({self.training.num_envs}) times training.rollout_length "
            f"({self.training.rollout_length}) times training.iterations_per_chunk "
            f"({self.training.iterations_per_chunk}) makes {self.env_steps_per_chunk:,} "
            f"environment steps in a compiled call; at most {LARGEST_INTEGER:,} are possible.",
        )
        replay = self.replay
        of_replay = (
            f" with replay.ratio ({replay.ratio:g}) and replay.batch_size ({replay.batch_size})"
            if replay
            else ""
        )
        require(
            self.num_updates <= LARGEST_INTEGER,
            f"training.num_env_steps ({self.training.num_env_steps:,}){of_replay} makes "
            f"{self.num_updates:,} updates; at most {LARGEST_INTEGER:,} are counted.",
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
    def num_updates(self) -> int:
        """Upper bound of the updates of the whole run; the schedules end there."""
        iterations = self.num_chunks * self.training.iterations_per_chunk
        return iterations * self.num_updates_per_iteration


def _changed(learner: Any, changes: dict[str, Any]) -> Any:
    """The agent's settings with some of their fields replaced."""
    names = [field.name for field in dataclasses.fields(learner)]
    unknown = [name for name in changes if name not in names]
    require(
        not unknown,
        f"{type(learner).__name__} has no setting {', '.join(unknown)}; it has {', '.join(names)}.",
    )
    return dataclasses.replace(learner, **changes) if changes else learner


def _of_type(settings: type, learner: Any) -> Any:
    """Settings of a class, from those of the same class as another import of its file has it."""
    if isinstance(learner, settings):
        return learner
    return rebuild(settings(), flatten(to_plain(learner)))


def traced_settings(config: ExperimentConfig) -> dict[str, float]:
    """The traced settings of a run's agent with their values, by dotted name.

    Args:
      config: the settings of the run.
    """
    return traced_values(config.learner)
