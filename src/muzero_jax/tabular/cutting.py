"""Rollouts that no episode outlives: cut where they end, as by samplers that collect anew."""

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import Rollout
from muzero_jax.core.types import Array, PyTree, Transition
from muzero_jax.training.chunk_metrics import Sums
from muzero_jax.training.collect import Collect, Collector


class CutEpisodes:
    """Collects as `Collect` does, then truncates all episodes and begins new ones.

    The metric `episode/discounted_return` is the mean of each rollout's episodes, and then of the
    rollouts: otherwise good rollouts, whose episodes are short and many, would count for more.

    Args:
      collect: the usual way of collecting.
    """

    def __init__(self, collect: Collect):
        self.collect = collect
        collect.keeps_final_observation = True
        self.begin, self.example = collect.begin, collect.example

    def __call__(
        self, agent_state: PyTree, collector: Collector
    ) -> tuple[Collector, Rollout, Sums]:
        """Collects a rollout whose last step ends every episode."""
        collector, rollout, sums = self.collect(agent_state, collector)
        collector = self.begin(*jax.random.split(collector.rng_key))
        transitions = cut_at_end(rollout.transitions)
        mean = mean_discounted_return(transitions, agent_state.hyperparameters["target.discount"])
        sums["cut"] = {"episode/discounted_return": mean}, jnp.asarray(1)
        return collector, Rollout(transitions, rollout.priority, collector.timestep), sums


def cut_at_end(transitions: Transition) -> Transition:
    """Marks the last row of a rollout `[T, num_envs]` as truncated, unless it terminated."""
    cut = transitions.discount[-1] != 0.0
    return transitions.replace(truncated=transitions.truncated.at[-1].set(cut))


def mean_discounted_return(transitions: Transition, discount: Array | float) -> Array:
    """`[]` the mean of the discounted returns of all episodes of a rollout `[T, num_envs]`.

    Episodes that were cut off or reached a time limit count with the rewards that they had.
    """
    last = (transitions.discount == 0.0) | transitions.truncated

    def backward(return_tp1: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, ends = step
        return_t = reward + discount * jnp.where(ends, 0.0, return_tp1)
        return return_t, return_t

    start = jnp.zeros(last.shape[1])
    _, returns = jax.lax.scan(backward, start, (transitions.reward, last), reverse=True)
    begins = jnp.concatenate([jnp.ones_like(last[:1]), last[:-1]])
    return jnp.where(begins, returns, 0.0).sum() / begins.sum()
