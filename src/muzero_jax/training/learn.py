"""Learning: all updates of one iteration, from a replay or from the rollout itself."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, LearnOutput, Rollout, Windows
from muzero_jax.core.checks import require
from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree, Transition
from muzero_jax.replay.buffer import Replay, ReplayState
from muzero_jax.training.chunk_metrics import Sums, gather, is_largest, nothing_gathered
from muzero_jax.training.shards import Shards


class FirstFailure(struct.PyTreeNode):
    """The first update whose metrics were not finite; neither it nor any later one is applied.

    Attributes:
      update: `[]` int32, which update, or -1.
      term: `[]` int32, index of the offending metric in `Train.learn_metric_names`.
    """

    update: Array
    term: Array


class Learner(struct.PyTreeNode):
    """What learning changes.

    Attributes:
      agent: the agent's state.
      replay: the ring; `()` for an agent that learns from rollouts.
      first_failure: the first update that was not applied.
    """

    agent: PyTree
    replay: PyTree
    first_failure: FirstFailure


def make_loop_replay(data: Windows, num_envs: int) -> Replay:
    """The ring that an agent learns from; `num_envs` environments are written side by side."""
    return Replay(data.replay, data.spec, num_envs)


class Learn:
    """`(learner, rng_key, rollout) -> (learner, sums)`, with one update from each rollout."""

    def __init__(self, agent: Agent, shards: Shards):
        self.agent, self.shards = agent, shards

    def begin(self, agent_state: PyTree, example: Transition) -> Learner:
        """The learner before its first rollout, from the shapes of one transition."""
        del example
        none = jnp.full((), -1, jnp.int32)
        return Learner(agent_state, replay=(), first_failure=FirstFailure(none, none))

    def shapes(self, learner: Learner, rollout: Rollout) -> Metrics:
        """Shapes of the metrics of one update."""
        shapes = self.shards.eval_shape(self._update, learner, jax.random.key(0), rollout)
        metrics: Metrics = shapes[1].metrics
        return metrics

    def __call__(
        self, learner: Learner, rng_key: PRNGKey, rollout: Rollout
    ) -> tuple[Learner, Sums]:
        """Lets the agent observe the rollout, and then learns."""
        if self.agent.observe is not None:
            learner = learner.replace(agent=self.agent.observe(learner.agent, rollout))
        return self._learn(learner, rng_key, rollout)

    def _learn(self, learner: Learner, rng_key: PRNGKey, rollout: Rollout) -> tuple[Learner, Sums]:
        learner, output = self._update(learner, rng_key, rollout)
        return learner, {"learn": (output.metrics, jnp.asarray(1))}

    def _update(self, learner: Learner, rng_key: PRNGKey, data: Any) -> tuple[Learner, LearnOutput]:
        """One update, which is not applied where a metric is not finite."""
        before, first_failure = learner.agent, learner.first_failure
        output = self.agent.learn(before, rng_key, data)
        # The agent has averaged its metrics over the shards, but an average hides the largest.
        metrics = {n: jnp.asarray(x, jnp.float32) for n, x in output.metrics.items()}
        largest = {name: x for name, x in metrics.items() if is_largest(name)}
        output = output.replace(metrics=metrics | self.shards.maximum(largest))
        names = causes_first(output.metrics)
        checked = [output.metrics[name] for name in names] or [jnp.zeros(())]
        is_bad = ~jnp.isfinite(jnp.stack(checked))
        failed_before = first_failure.update >= 0
        failed = is_bad.any() | failed_before
        state = jax.tree.map(lambda new, old: jnp.where(failed, old, new), output.state, before)
        failure = FirstFailure(before.num_updates, jnp.argmax(is_bad).astype(jnp.int32))
        is_first = failed & ~failed_before
        first_failure = jax.tree.map(
            lambda new, old: jnp.where(is_first, new, old), failure, first_failure
        )
        return learner.replace(agent=state, first_failure=first_failure), output


class LearnFromReplay(Learn):
    """Stores the rollout, and learns from windows of the ring as soon as it holds enough.

    Its `num_updates` are those of one iteration. They pass a `Learner` whose `replay` is the
    priorities of the ring alone: under `vmap` the conditional around them becomes a select, which
    would copy the whole ring.
    """

    def __init__(
        self, agent: Agent, data: Windows, num_envs: int, num_updates: int, shards: Shards
    ):
        super().__init__(agent, shards)
        num_rows = data.replay.capacity // num_envs
        require(
            num_rows >= data.spec.length,
            f"replay.capacity ({data.replay.capacity}) over {num_envs} environments keeps "
            f"{num_rows} steps of each, but a window of the agent needs {data.spec.length}.",
        )
        self.settings, self.num_updates = data.replay, num_updates
        self.replay = make_loop_replay(data, num_envs)
        self.metric_names: tuple[str, ...] = ()

    def begin(self, agent_state: PyTree, example: Transition) -> Learner:
        """The learner before its first rollout, with an empty ring."""
        return super().begin(agent_state, example).replace(replay=self.replay.init(example))

    def shapes(self, learner: Learner, rollout: Rollout) -> Metrics:
        """Shapes of the metrics of one update, whose names are kept for when nothing is learned."""
        del rollout
        changing = learner.replace(replay=learner.replay.priorities)
        key = jax.random.key(0)
        shapes = self.shards.eval_shape(self._replay_once, learner.replay, changing, key)
        metrics: Metrics = shapes[1]
        self.metric_names = tuple(metrics)
        return metrics

    def _learn(self, learner: Learner, rng_key: PRNGKey, rollout: Rollout) -> tuple[Learner, Sums]:
        ring = self.replay.add(learner.replay, rollout.transitions, rollout.priority)
        new, metrics, count = jax.lax.cond(
            self.replay.can_sample(ring),
            functools.partial(self._all_updates, ring, rng_key),
            lambda changing: (changing, nothing_gathered(self.metric_names), jnp.asarray(0)),
            Learner(learner.agent, ring.priorities, learner.first_failure),
        )
        ring = ring.replace(priorities=new.replay)
        learner = learner.replace(agent=new.agent, replay=ring, first_failure=new.first_failure)
        return learner, {"learn": (metrics, count)}

    def _all_updates(
        self, ring: ReplayState, rng_key: PRNGKey, changing: Learner
    ) -> tuple[Learner, Metrics, Array]:
        """All updates of one iteration; returns their gathered metrics, and their number."""
        step = functools.partial(self._replay_once, ring)
        keys = jax.random.split(rng_key, self.num_updates)
        changing, metrics = jax.lax.scan(step, changing, keys)
        return changing, gather(metrics), jnp.asarray(self.num_updates)

    def _replay_once(
        self, ring: ReplayState, changing: Learner, rng_key: PRNGKey
    ) -> tuple[Learner, Metrics]:
        """Samples, learns, and writes priorities back."""
        sample_key, learn_key = jax.random.split(rng_key)
        traced, ring = changing.agent.hyperparameters, ring.replace(priorities=changing.replay)
        batch = self.replay.sample(
            ring,
            sample_key,
            traced.get("replay.priority_exponent", self.settings.priority_exponent),
            traced.get("replay.importance_exponent", self.settings.importance_exponent),
        )
        changing, output = self._update(changing, learn_key, batch)
        if self.settings.prioritised and output.priorities is not None:
            has_failed = changing.first_failure.update >= 0
            new = jnp.where(has_failed, 0.0, output.priorities)
            ring = self.replay.update_priorities(ring, batch.index, new)
        return changing.replace(replay=ring.priorities), output.metrics


def causes_first(names: Iterable[str]) -> tuple[str, ...]:
    """Orders metrics so that the first bad one is the culprit, which spoils total and gradient."""
    return tuple(sorted(names, key=lambda n: ("gradient" in n, "total" in n, "loss" in n, n)))
