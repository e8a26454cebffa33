"""The best agent of a run by its evaluations, kept beside the newest one in every checkpoint.

What lies in a checkpoint is the best agent of the evaluations before it. So a run that is taken up
at a checkpoint goes on with the best agent of that moment, whatever came after it.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from muzero_jax.checkpoints.checkpoint import Restored
from muzero_jax.checkpoints.plain_arrays import from_plain, is_key, to_plain
from muzero_jax.core.types import PyTree

# The name of its group in a checkpoint.
BEST_GROUP = "best"


@dataclasses.dataclass(frozen=True)
class BestAgent:
    """The agent whose evaluation had the highest mean score; of equal ones the earliest.

    Attributes:
      agent: the agent's state, on the host.
      env_steps: environment steps that the agent was trained for.
      score_mean: mean score of its evaluation.
    """

    agent: PyTree
    env_steps: int
    score_mean: float

    @classmethod
    def copied(cls, agent: PyTree, env_steps: int, score_mean: float) -> "BestAgent":
        """Keeps a copy of an agent's state, whose arrays are about to be written over.

        Args:
          agent: the agent's state.
          env_steps: environment steps that the agent was trained for.
          score_mean: mean score of its evaluation.
        """
        return cls(jax.tree.map(_copy_to_host, agent), env_steps, score_mean)

    @classmethod
    def restored(cls, checkpoint: Restored) -> "BestAgent | None":
        """The best agent that a checkpoint holds; None where it holds none."""
        record = checkpoint.record.get(BEST_GROUP)
        return None if record is None else cls(checkpoint.groups[BEST_GROUP], **record)

    def is_behind(self, score_mean: float) -> bool:
        """Whether another agent's mean score is better; any is better than NaN."""
        return score_mean > self.score_mean or math.isnan(self.score_mean)

    def record(self) -> dict[str, Any]:
        """What a checkpoint records of the agent beside its arrays."""
        return {"env_steps": self.env_steps, "score_mean": self.score_mean}


def _copy_to_host(x: Any) -> Any:
    data = np.array(to_plain(x))
    return from_plain(data, x) if is_key(x) else data
