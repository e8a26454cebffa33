"""Records of play, and what truly follows actions, for whoever compares an agent with them."""

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.agents.base import Agent, Moment
from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment, random_action
from muzero_jax.envs.wrappers import AutoResetState
from muzero_jax.maths.returns import window_ends
from muzero_jax.maths.rows import choose_rows
from muzero_jax.training.collect import Collect, Collector


class Steps(struct.PyTreeNode):
    """What truly happened at steps of an environment, in which episodes may follow each other.

    Attributes:
      action: `[..., *action_shape]` the actions.
      reward: `[..., P]` rewards of all players.
      discount: `[...]` 0 where the step terminated the episode, 1 elsewhere.
      truncated: `[...]` bool, whether a time limit ended the episode.
      to_play: `[...]` int32, the player who moved.
      next_to_play: `[...]` int32, the player who moves after the step, before any reset.
      next_value: `[...]` the agent's value of the observation after the step, before any reset;
        None for an agent that learns no values.
    """

    action: Array
    reward: Array
    discount: Array
    truncated: Array
    to_play: Array
    next_to_play: Array
    next_value: Array | None

    @property
    def own_reward(self) -> Array:
        """`[...]` rewards of the players who moved."""
        return jnp.take_along_axis(self.reward, self.to_play[..., None], axis=-1)[..., 0]


class Answers(struct.PyTreeNode):
    """What a perfect model would say along `K` steps; nothing is known after a truncation.

    After a termination the state is absorbing: rewards and values are 0.

    Attributes:
      value: `[K]` values after the steps.
      reward: `[K]` rewards of the steps.
      known: `[K]` bool.
    """

    value: Array
    reward: Array
    known: Array


def play_greedily(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    rng_key: PRNGKey,
    *,
    num_envs: int,
    num_steps: int,
) -> tuple[Moment, Array | None, Steps]:
    """Plays greedy episodes one after the other, from their beginnings; all players are the agent.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner.
      agent_state: its state.
      rng_key: consumed.
      num_envs: environments that are played side by side, `N`.
      num_steps: steps in each environment, `T`.

    Returns:
      The moments `[T, N, ...]` in which the agent acted, its values of them `[T, N]` (None for an
      agent that learns none), and the steps `[T, N, ...]`.
    """
    collect = Collect(env, agent, num_envs, length=1)

    def step(now: Collector, _: None) -> tuple[Collector, tuple[Moment, Array | None, Steps]]:
        rng_key, act_key, value_key, env_key = jax.random.split(now.rng_key, 4)
        moment = now.moment
        output = agent.act_greedily(agent_state, act_key, moment)
        value = observed_value(agent, agent_state, value_key, moment)
        env_state, timestep = collect.env.step(env_key, now.env_state, output.action)
        outcome, last = env_state.outcome, env_state.outcome.last
        episode_step = now.episode_step + 1
        # The environment's state may be that of the next episode, which no value reads.
        after = Moment(outcome, output.memory, episode_step, env_state.env_state)
        next_value = observed_value(agent, agent_state, value_key, after)
        steps = _step_between(moment.timestep, output.action, outcome, next_value)
        following = now.replace(
            env_state=env_state,
            timestep=timestep,
            memory=choose_rows(last, agent.init_memory(num_envs), output.memory),
            rng_key=rng_key,
            episode_step=jnp.where(last, 0, episode_step),
        )
        return following, (moment, value, steps)

    begin = collect.begin(*jax.random.split(rng_key))
    _, played = jax.lax.scan(step, begin, None, length=num_steps)
    moments, values, steps = played
    return moments, values, steps


def play_at_random(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    rng_key: PRNGKey,
    moment: Moment,
    num_steps: int,
) -> Steps:
    """Takes random legal actions from given moments, without any reset.

    What follows the end of an episode means nothing.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner, whose values are asked for.
      agent_state: its state.
      rng_key: consumed.
      moment: `[M, ...]` where to begin.
      num_steps: steps from each, `K`.

    Returns:
      The steps `[K, M, ...]`.
    """
    num_moments = len(moment.episode_step)

    def step(now: Moment, rng_key: PRNGKey) -> tuple[Moment, Steps]:
        action_key, env_key, value_key = jax.random.split(rng_key, 3)
        before = now.timestep
        action = random_action(action_key, env.spec, before.legal_action_mask)
        keys = jax.random.split(env_key, num_moments)
        env_state, timestep = jax.vmap(env.step)(keys, now.env_state, action)
        following = Moment(timestep, now.memory, now.episode_step + 1, env_state)
        next_value = observed_value(agent, agent_state, value_key, following)
        return following, _step_between(before, action, timestep, next_value)

    _, steps = jax.lax.scan(step, moment, jax.random.split(rng_key, num_steps))
    return steps


def explores(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    rng_key: PRNGKey,
    moment: Moment,
    num_steps: int,
) -> Array:
    """Where an agent that acts as in training leaves its greedy choice.

    Args:
      env: one environment, neither batched nor auto-resetting.
      agent: the learner, which may treat the places of the batch differently.
      agent_state: its state.
      rng_key: consumed.
      moment: `[N, ...]` where to begin; the notes of the agent included.
      num_steps: steps from each, `T`.

    Returns:
      `[T, N]` bool, whether the action differs from the greedy one.
    """
    collect = Collect(env, agent, len(moment.episode_step), length=1)
    act_key, greedy_key = jax.random.split(rng_key)
    begin = Collector(
        env_state=AutoResetState(env_state=moment.env_state, outcome=moment.timestep),
        timestep=moment.timestep,
        memory=moment.memory,
        rng_key=act_key,
        episode_return=jnp.zeros(len(moment.episode_step)),
        episode_step=moment.episode_step,
    )

    def step(now: Collector, rng_key: PRNGKey) -> tuple[Collector, Array]:
        greedy = agent.act_greedily(agent_state, rng_key, now.moment).action
        following, rollout, _ = collect(agent_state, now)
        return following, rollout.transitions.action[0] != greedy

    _, differs = jax.lax.scan(step, begin, jax.random.split(greedy_key, num_steps))
    return differs


def _step_between(
    before: TimeStep, action: Array, after: TimeStep, next_value: Array | None
) -> Steps:
    """The steps `[B]` that lead from some time steps to others."""
    return Steps(
        action=action,
        reward=after.reward,
        discount=after.discount,
        truncated=after.truncated,
        to_play=before.to_play,
        next_to_play=after.to_play,
        next_value=next_value,
    )


def observed_value(
    agent: Agent, agent_state: PyTree, rng_key: PRNGKey, moment: Moment
) -> Array | None:
    """The `[B]` values of what is observed, in rewards; None for an agent that learns no values.

    Args:
      agent: the learner.
      agent_state: its state.
      rng_key: consumed.
      moment: `[B, ...]` what the agent looks at.
    """
    if agent.unroll is None:
        return agent.act_greedily(agent_state, rng_key, moment).value
    no_actions = jnp.zeros((0, len(moment.episode_step)), jnp.int32)
    return agent.unroll(agent_state, moment.timestep.observation, no_actions).value[0]


def true_answers(steps: Steps) -> Answers:
    """What a perfect model would say along `[K]` steps from one state."""
    assert steps.next_value is not None
    ends = window_ends(steps.discount, steps.truncated)
    goes_on = ends.alive & (steps.discount != 0.0)
    return Answers(
        value=jnp.where(goes_on, steps.next_value, 0.0),
        reward=jnp.where(ends.alive, steps.own_reward, 0.0),
        known=~ends.truncated_before,
    )


def returns_to_go(steps: Steps, discount: Array | float) -> tuple[Array, Array]:
    """The discounted returns that followed in one environment, for the players who moved.

    A truncated episode goes on with the value of its final observation, as in the targets of
    learning, and so does the last episode where the record ends. The value is that of the player to
    move; the other player of a zero-sum game has its negative.

    Args:
      steps: `[T, ...]` steps of one environment.
      discount: `[]` discount of one step.

    Returns:
      `[T]` returns, and the `[T]` weights in them of the value where the record ends.
    """
    assert steps.next_value is not None
    players = jnp.arange(steps.reward.shape[-1])[None]
    sign = jnp.where(players == steps.next_to_play[:, None], 1.0, -1.0)
    bootstrap = sign * steps.next_value[:, None]

    def backward(later: tuple[Array, Array], step: tuple[Steps, Array]) -> tuple[PyTree, PyTree]:
        (following, weight), (now, own) = later, step
        following = jnp.where(now.truncated, own, following) * now.discount
        weight = jnp.where(now.truncated, 0.0, weight * discount) * now.discount
        total = now.reward + discount * following
        return (total, weight), (total[now.to_play], weight)

    begin = bootstrap[-1], jnp.ones(())
    _, (returns, weights) = jax.lax.scan(backward, begin, (steps, bootstrap), reverse=True)
    return returns, weights
