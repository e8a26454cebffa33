"""The settings of the learners of tables. Nothing here imports JAX."""

import dataclasses
import math
from typing import Literal

from muzero_jax.agents.muzero.settings import TargetConfig
from muzero_jax.agents.settings import EpsilonConfig
from muzero_jax.core.checks import require
from muzero_jax.core.settings import Section, bounded, traced
from muzero_jax.replay.settings import ReplayConfig
from muzero_jax.search.settings import SearchConfig


class _Table(Section, name="table"):
    """A section `table`, whose values are finite."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("optimistic_value", "initial_value"):
            value = getattr(self, name, 0.0)
            require(math.isfinite(value), f"table.{name} must be finite, found {value!r}.")


@dataclasses.dataclass(frozen=True)
class TableConfig(_Table):
    """The table that MuZero searches in the place of networks."""

    num_outcomes: int = bounded(1, 1)
    """Outcomes of a state and action that the model keeps; a new one replaces the rarest."""
    unknown: Literal["pessimistic", "self_loop", "optimistic"] = "pessimistic"
    """How planning treats a state and action that were never tried. pessimistic: the episode ends
    with reward 0. self_loop: nothing changes. optimistic: the episode ends with optimistic_value,
    as in R-max."""
    optimistic_value: float = 1.0
    """optimistic: an upper bound of the return."""
    initial_value: float = 0.0
    """Value of a state that was never learned."""
    step_size: float = traced(0.1, 0, 1)
    """Traced: share of its distance from the target that a value moves in an update."""
    prior: Literal["uniform", "action", "search"] = "uniform"
    """Prior of the search. uniform: all actions alike. action: proportional to how often each
    action was taken, plus one. search: proportional to the sum of the state's search policies, plus
    one."""


@dataclasses.dataclass(frozen=True)
class QTableConfig(_Table):
    """The table of action values of Q-learning."""

    initial_value: float = 0.0
    """Value of a state and action that were never learned."""
    step_size: float = traced(0.1, 0, 1)
    """Traced: share of its distance from the target that a value moves in an update."""


@dataclasses.dataclass(frozen=True)
class ModelTableConfig(QTableConfig):
    """The tables of learners that plan: action values, and a model of what was observed."""

    num_outcomes: int = bounded(1, 1)
    """Outcomes of a state and action that the model keeps; a new one replaces the rarest."""
    num_backups: int = bounded(10, 1)
    """Backups from the model in an update."""


@dataclasses.dataclass(frozen=True)
class DynaTableConfig(ModelTableConfig):
    """The tables of Dyna-Q: action values, and a model of what was observed."""

    backup_pairs: Literal["replayed", "observed", "uniform"] = "observed"
    """Pairs of state and action that are backed up: the pairs of the replayed batch, or pairs drawn
    from all that were observed, or from all there are (a pair that was never tried stays as it
    is)."""


@dataclasses.dataclass(frozen=True)
class SweepingTableConfig(ModelTableConfig):
    """The tables of prioritised sweeping: action values, and a model of what was observed."""

    priority_threshold: float = bounded(1e-4, 0)
    """Changes of a value below this are not passed on."""


@dataclasses.dataclass(frozen=True)
class RmaxTableConfig(_Table):
    """The tables of R-max: action values, and a model of what was observed."""

    num_outcomes: int = bounded(1, 1)
    """Outcomes of a state and action that the model keeps; a new one replaces the rarest."""
    optimistic_value: float = 1.0
    """Value of what is not known: an upper bound of the return."""
    known_after: int = bounded(1, 1)
    """Visits after which a state and action count as known; with more than one, num_outcomes must
    hold all outcomes, since one that is replaced is no longer counted."""


@dataclasses.dataclass(frozen=True)
class DiscountConfig(Section, name="target"):
    """What the values of a table are backed up towards."""

    discount: float = traced(0.997, 0, 1)
    """Traced: discount of one environment step."""


@dataclasses.dataclass(frozen=True)
class TableMuZeroSettings(Section):
    """MuZero with a table in the place of networks; nothing is unrolled."""

    table: TableConfig = dataclasses.field(default_factory=TableConfig)
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    exploration: EpsilonConfig = dataclasses.field(default_factory=EpsilonConfig)
    replay: ReplayConfig = dataclasses.field(default_factory=ReplayConfig)
    target: TargetConfig = dataclasses.field(
        default_factory=lambda: TargetConfig(num_unroll_steps=0)
    )

    @property
    def window_length(self) -> int:
        """Consecutive steps of a replayed window."""
        return self.target.td_steps + 1


@dataclasses.dataclass(frozen=True)
class QSettings(Section):
    """Q-learning from replayed steps (Sutton and Barto 2018, section 6.5)."""

    table: QTableConfig = dataclasses.field(default_factory=QTableConfig)
    exploration: EpsilonConfig = dataclasses.field(default_factory=EpsilonConfig)
    target: DiscountConfig = dataclasses.field(default_factory=DiscountConfig)
    replay: ReplayConfig = dataclasses.field(default_factory=ReplayConfig)

    @property
    def window_length(self) -> int:
        """A step, and the one after it, whose observation is where the first has led."""
        return 2


@dataclasses.dataclass(frozen=True)
class DynaSettings(QSettings):
    """Dyna-Q (Sutton and Barto 2018, section 8.2)."""

    table: DynaTableConfig = dataclasses.field(default_factory=DynaTableConfig)


@dataclasses.dataclass(frozen=True)
class SweepingSettings(QSettings):
    """Prioritised sweeping (Sutton and Barto 2018, section 8.4)."""

    table: SweepingTableConfig = dataclasses.field(default_factory=SweepingTableConfig)


@dataclasses.dataclass(frozen=True)
class RmaxSettings(QSettings):
    """R-max (Brafman and Tennenholtz 2002)."""

    table: RmaxTableConfig = dataclasses.field(default_factory=RmaxTableConfig)  # type: ignore[assignment]
