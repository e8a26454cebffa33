"""Learning: all updates of one iteration, from a replay or from the rollout itself."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, LearnOutput, Rollout, Windows
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Metrics, PRNGKey, PyTree, Transition
from muzero_jax.replay.buffer import Replay, ReplayState, make_replay
from muzero_jax.training.chunk_metrics import gather, is_largest, nothing_gathered
from muzero_jax.training.shards import Shards


class FirstFailure(struct.PyTreeNode):
    """The first update whose metrics were not finite; neither it nor any later one is applied.

    Attributes:
      update: `[]` int32, which update, or -1.
      term: `[]` int32, index of the offending metric in `Train.learn_metric_names`.
    """

    update: Array
    term: Array

    @classmethod
    def none(cls) -> "FirstFailure":
        """No update has failed."""
        return cls(jnp.full((), -1, jnp.int32), jnp.full((), -1, jnp.int32))


class Learner(struct.PyTreeNode):
    """What learning changes.

    Attributes:
      agent: the agent's state.
      replay: the ring; `()` for an agent that learns from rollouts.
      first_failure: see `FirstFailure`.
    """

    agent: PyTree
    replay: PyTree
    first_failure: FirstFailure


class _Update(struct.PyTreeNode):
    """What one update changes: of the ring nothing but the priorities."""

    agent: PyTree
    priorities: Array
    first_failure: FirstFailure


def make_loop_replay(data: Windows, num_envs: int) -> Replay:
    """The ring that an agent learns from.

    Args:
      data: the windows that the agent reads.
      num_envs: environments that are written side by side.

    Raises:
      ConfigError: the ring could not hold one window.
    """
    try:
        return make_replay(
            capacity=data.replay.capacity,
            num_envs=num_envs,
            window=data.spec,
            batch_size=data.replay.batch_size,
            min_size=data.replay.min_size,
            prioritised=data.replay.prioritised,
        )
    except ValueError as error:
        raise ConfigError(f"replay.capacity does not suit the agent: {error}") from error


def make_learn(agent: Agent, num_envs: int, num_updates: int, shards: Shards) -> "Learn":
    """The learning of one iteration.

    Args:
      agent: the learner.
      num_envs: environments that act in one batch.
      num_updates: updates of an iteration, for an agent that learns from a replay.
      shards: the shards of the run, of which this is one.
    """
    if isinstance(agent.data, Windows):
        return _LearnFromReplay(agent, agent.data, num_envs, num_updates, shards)
    return Learn(agent, shards)


class Learn:
    """`(learner, rng_key, rollout) -> (learner, sums)`, with one update from each rollout.

    The sums are those of the metrics of learning, with their count.

    Args:
      agent: the learner.
      shards: the shards of the run, of which this is one.
    """

    def __init__(self, agent: Agent, shards: Shards):
        self.agent, self.shards = agent, shards

    def begin(self, agent_state: PyTree, example: Transition) -> Learner:
        """The learner before its first rollout.

        Args:
          agent_state: the agent's first state.
          example: shapes of one transition.
        """
        del example
        return Learner(agent_state, (), FirstFailure.none())

    def shapes(self, learner: Learner, rollout: Rollout) -> Metrics:
        """Shapes of the metrics of one update."""
        shapes = self.shards.eval_shape(self._step_from, rollout, learner, jax.random.key(0))
        metrics: Metrics = shapes[1].metrics
        return metrics

    def __call__(
        self, learner: Learner, rng_key: PRNGKey, rollout: Rollout
    ) -> tuple[Learner, dict[str, Any]]:
        """Lets the agent observe the rollout, and then learns."""
        if self.agent.observe is not None:
            learner = learner.replace(agent=self.agent.observe(learner.agent, rollout))
        return self._learn(learner, rng_key, rollout)

    def _learn(
        self, learner: Learner, rng_key: PRNGKey, rollout: Rollout
    ) -> tuple[Learner, dict[str, Any]]:
        """Learns once from the rollout."""
        learner, output = self._step_from(rollout, learner, rng_key)
        return learner, {"learn": output.metrics, "learn_count": jnp.asarray(1)}

    def _step_from(
        self, rollout: Rollout, learner: Learner, rng_key: PRNGKey
    ) -> tuple[Learner, LearnOutput]:
        output = self.agent.learn(learner.agent, rng_key, rollout)
        state, first_failure, _, output = self._checked(
            learner.agent, learner.first_failure, output
        )
        return Learner(state, learner.replay, first_failure), output

    def _checked(
        self, before: PyTree, first_failure: FirstFailure, output: LearnOutput
    ) -> tuple[PyTree, FirstFailure, Array, LearnOutput]:
        """The state after an update, which is not applied where a metric is not finite."""
        # The agent has averaged its metrics over the shards, but an average hides the largest.
        metrics = {n: jnp.asarray(x, jnp.float32) for n, x in output.metrics.items()}
        largest = {name: x for name, x in metrics.items() if is_largest(name)}
        output = output.replace(metrics=metrics | self.shards.maximum(largest))
        names = causes_first(output.metrics)
        checked = [output.metrics[name] for name in names] or [jnp.zeros(())]
        is_bad = ~jnp.isfinite(jnp.stack(checked))
        failed_before = first_failure.update >= 0
        failed = is_bad.any() | failed_before
        keep = jax.tree.map(lambda new, old: jnp.where(failed, old, new), output.state, before)
        failure = FirstFailure(before.num_updates, jnp.argmax(is_bad).astype(jnp.int32))
        is_first = failed & ~failed_before
        first_failure = jax.tree.map(
            lambda new, old: jnp.where(is_first, new, old), failure, first_failure
        )
        return keep, first_failure, failed, output


class _LearnFromReplay(Learn):
    """Stores the rollout, and learns from windows of the ring as soon as it holds enough."""

    def __init__(
        self, agent: Agent, data: Windows, num_envs: int, num_updates: int, shards: Shards
    ):
        super().__init__(agent, shards)
        self.settings, self.num_updates = data.replay, num_updates
        self.replay = make_loop_replay(data, num_envs)
        self.metric_names: tuple[str, ...] = ()

    def begin(self, agent_state: PyTree, example: Transition) -> Learner:
        return Learner(agent_state, self.replay.init(example), FirstFailure.none())

    def shapes(self, learner: Learner, rollout: Rollout) -> Metrics:
        del rollout
        update = _Update(learner.agent, learner.replay.priorities, learner.first_failure)
        shapes = self.shards.eval_shape(self._update, learner.replay, update, jax.random.key(0))
        self.metric_names = tuple(shapes[1].metrics)
        metrics: Metrics = shapes[1].metrics
        return metrics

    def _learn(
        self, learner: Learner, rng_key: PRNGKey, rollout: Rollout
    ) -> tuple[Learner, dict[str, Any]]:
        replay = self.replay.add(learner.replay, rollout.transitions, rollout.priority)
        # Only what learning changes goes through the conditional: under vmap it becomes a select,
        # which would copy the whole ring.
        update = _Update(learner.agent, replay.priorities, learner.first_failure)
        update, sums, count = jax.lax.cond(
            self.replay.can_sample(replay),
            functools.partial(self._all_updates, replay, rng_key),
            self._skip,
            update,
        )
        learner = Learner(
            update.agent, replay.replace(priorities=update.priorities), update.first_failure
        )
        return learner, {"learn": sums, "learn_count": count}

    def _all_updates(
        self, replay: ReplayState, rng_key: PRNGKey, update: _Update
    ) -> tuple[_Update, Metrics, Array]:
        """All updates of one iteration; returns their gathered metrics, and their number."""

        def step(update: _Update, rng_key: PRNGKey) -> tuple[_Update, Metrics]:
            update, output = self._update(replay, update, rng_key)
            return update, output.metrics

        update, metrics = jax.lax.scan(step, update, jax.random.split(rng_key, self.num_updates))
        return update, gather(metrics), jnp.asarray(self.num_updates)

    def _skip(self, update: _Update) -> tuple[_Update, Metrics, Array]:
        return update, nothing_gathered(self.metric_names), jnp.asarray(0)

    def _update(
        self, replay: ReplayState, update: _Update, rng_key: PRNGKey
    ) -> tuple[_Update, LearnOutput]:
        """Samples, learns, and writes priorities back."""
        sample_key, learn_key = jax.random.split(rng_key)
        traced = update.agent.hyperparameters
        batch = self.replay.sample(
            replay.replace(priorities=update.priorities),
            sample_key,
            traced.get("replay.priority_exponent", self.settings.priority_exponent),
            traced.get("replay.importance_exponent", self.settings.importance_exponent),
        )
        output = self.agent.learn(update.agent, learn_key, batch)
        state, first_failure, failed, output = self._checked(
            update.agent, update.first_failure, output
        )
        priorities = update.priorities
        if self.settings.prioritised and output.priorities is not None:
            new = jnp.where(failed, 0.0, output.priorities)
            replay = replay.replace(priorities=priorities)
            priorities = self.replay.update_priorities(replay, batch.index, new).priorities
        return _Update(state, priorities, first_failure), output


def causes_first(names: Iterable[str]) -> tuple[str, ...]:
    """Orders metrics so that the first bad one is the culprit, which spoils total and gradient."""
    return tuple(sorted(names, key=lambda n: ("gradient" in n, "total" in n, "loss" in n, n)))
