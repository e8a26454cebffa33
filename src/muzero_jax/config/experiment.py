"""The settings of one run, what follows from them together, and which of them are traced."""

import dataclasses

from muzero_jax.config.learner_sections import (
    AgentConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    SearchConfig,
    TableConfig,
    TargetConfig,
)
from muzero_jax.config.run_sections import (
    EnvironmentConfig,
    EvaluationConfig,
    LoggingConfig,
    ReplayConfig,
    TrainingConfig,
)
from muzero_jax.core.checks import (
    LARGEST_INTEGER,
    require,
    require_name,
    require_seed,
    require_types,
)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One run: everything that decides its numbers, and what it writes."""

    name: str = "experiment"
    """Name of the experiment, used for the run folder."""
    seed: int = 0
    """Seed of everything random in the run; the same seed repeats it bit for bit."""
    environment: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    agent: AgentConfig = dataclasses.field(default_factory=AgentConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    table: TableConfig = dataclasses.field(default_factory=TableConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    replay: ReplayConfig = dataclasses.field(default_factory=ReplayConfig)
    target: TargetConfig = dataclasses.field(default_factory=TargetConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        require_types("", self)
        require_name("name", self.name)
        require_seed("seed", self.seed)
        self._require_sizes()
        self._require_shards()
        require(
            self.num_updates_per_iteration >= 1,
            f"replay.ratio ({self.replay.ratio:g}) with replay.batch_size "
            f"({self.replay.batch_size}) gives no update in an iteration of "
            f"{self.env_steps_per_iteration} environment steps; raise the ratio to at least "
            f"{self.replay.batch_size / self.env_steps_per_iteration:g}.",
        )
        require(
            self.loss.consistency_weight == 0 or self.target.num_unroll_steps >= 1,
            f"loss.consistency_weight ({self.loss.consistency_weight:g}) compares unrolled states, "
            "but target.num_unroll_steps is 0.",
        )
        window = self.target.window_length
        time_capacity = self.replay.capacity // self.training.num_envs
        needed = max(window, self.training.rollout_length)
        require(
            time_capacity >= needed,
            f"replay.capacity ({self.replay.capacity}) over training.num_envs "
            f"({self.training.num_envs}) keeps {time_capacity} steps of each environment, "
            f"but a window or rollout needs {needed}.",
        )
        require(
            self._steps_before_learning <= self.total_env_steps,
            f"training.num_env_steps ({self.training.num_env_steps}) ends before learning begins, "
            f"which takes {self._steps_before_learning} steps: replay.min_size "
            f"({self.replay.min_size}), or a window of {window} steps in each of "
            f"training.num_envs ({self.training.num_envs}).",
        )

    def _require_shards(self) -> None:
        """Refuses parts of a run that would not be equal, or have nothing to share."""
        require(
            self.training.num_shards == 1 or not self.learns_tables,
            f"training.num_shards must be 1 for learners of tables, found "
            f"{self.training.num_shards}: there is no gradient to share.",
        )
        require(
            self.replay.batch_size % self.training.num_shards == 0,
            f"replay.batch_size ({self.replay.batch_size}) cannot be divided among "
            f"training.num_shards ({self.training.num_shards}).",
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
        require(
            self.num_updates <= LARGEST_INTEGER,
            f"training.num_env_steps ({self.training.num_env_steps:,}) with replay.ratio "
            f"({self.replay.ratio:g}) and replay.batch_size ({self.replay.batch_size}) makes "
            f"{self.num_updates:,} updates; at most {LARGEST_INTEGER:,} are counted.",
        )

    @property
    def learns_tables(self) -> bool:
        """Whether the learner keeps a number for each state, and so needs them to be numbered."""
        return self.agent.kind != "muzero" or self.network.kind == "table"

    @property
    def _steps_before_learning(self) -> int:
        num_envs = self.training.num_envs
        rows = max(self.target.window_length, -(-self.replay.min_size // num_envs))
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
        """Optimiser steps of one iteration, from the replay ratio, rounded."""
        return round(self.replay.ratio * self.env_steps_per_iteration / self.replay.batch_size)

    @property
    def num_updates(self) -> int:
        """Upper bound of the optimiser steps of the whole run; the schedules end there."""
        iterations = self.num_chunks * self.training.iterations_per_chunk
        return iterations * self.num_updates_per_iteration


TRACED_SETTINGS = (
    "table.step_size",
    "search.gumbel_scale",
    "search.epsilon",
    "search.dirichlet_alpha",
    "search.dirichlet_fraction",
    "search.temperature",
    "search.final_temperature",
    "replay.priority_exponent",
    "replay.importance_exponent",
    "target.discount",
    "loss.policy_weight",
    "loss.value_weight",
    "loss.reward_weight",
    "loss.entropy_weight",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.max_gradient_norm",
)
"""Settings that members of one vmapped program may differ in."""


def traced_settings(config: ExperimentConfig) -> dict[str, float]:
    """The values of `TRACED_SETTINGS` in `config`, by dotted name."""
    sections = {name: name.split(".") for name in TRACED_SETTINGS}
    return {n: float(getattr(getattr(config, s), f)) for n, (s, f) in sections.items()}
