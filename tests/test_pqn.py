"""PQN: the returns of its rollouts, its updates, and what it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import trained
from tiny_run import TINY

from muzero_jax.agents.base import Rollout
from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.pqn.agent import _PQN, make_pqn
from muzero_jax.agents.pqn.settings import PQNSettings
from muzero_jax.config import ConfigError, EvaluationConfig
from muzero_jax.core.types import Transition
from muzero_jax.envs import probes
from muzero_jax.envs.base import make_timestep
from muzero_jax.maths.returns import lambda_returns
from muzero_jax.settings import apply_settings
from muzero_jax.training.evaluation import Evaluate

PROBE = {
    "agent": "pqn",
    "network.kind": "mlp",
    "network.hidden_sizes": [32],
    "network.embedding_size": 16,
    "target.discount": 0.9,
    "optimizer": {"learning_rate": 5e-3, "warmup_updates": 10, "schedule": "constant"},
    "training": {
        "num_envs": 8,
        "rollout_length": 8,
        "iterations_per_chunk": 64,
        "num_env_steps": 8192,
    },
}


@pytest.mark.parametrize("td_lambda", [0.0, 0.65, 1.0])
def test_lambda_returns_match_a_recursion_by_hand(td_lambda):
    rng = np.random.default_rng(0)
    kind = rng.choice(["on", "terminated", "truncated"], p=[0.6, 0.2, 0.2], size=30)
    reward, value = rng.normal(size=(2, 30))
    discount = np.where(kind == "terminated", 0.0, 0.9)
    found = lambda_returns(
        jnp.array(reward),
        jnp.array(discount),
        jnp.array(kind == "truncated"),
        jnp.array(value),
        td_lambda=td_lambda,
    )
    later, expected = value[-1], []
    for t in reversed(range(30)):
        if kind[t] == "truncated":
            later = reward[t] + 0.9 * value[t]
        elif kind[t] == "terminated":
            later = reward[t]
        else:
            later = reward[t] + 0.9 * ((1 - td_lambda) * value[t] + td_lambda * later)
        expected.append(later)
    np.testing.assert_allclose(found, expected[::-1], rtol=1e-4, atol=1e-5)


def rollout_of(reward, discount, truncated):
    """A rollout `[T, 1]`, in which the state after step t is observed as `t + 1`."""
    length = len(reward)
    seen = jnp.arange(length, dtype=jnp.float32)[:, None, None] * jnp.ones((1, 1, 2))
    column = {"reward": reward, "discount": discount, "truncated": truncated}
    transitions = Transition(
        observation=seen,
        legal_action_mask=jnp.ones((length, 1, 3), bool).at[2, 0, 0].set(False),
        to_play=jnp.zeros((length, 1), jnp.int32),
        action=jnp.zeros((length, 1), jnp.int32),
        final_observation=jnp.full((length, 1, 2), 50.0),
        record=(),
        **{name: jnp.array(x)[:, None] for name, x in column.items()},
    )
    last = make_timestep(jnp.full(2, float(length)), num_actions=3)
    return Rollout(transitions, jnp.ones((length, 1)), jax.tree.map(lambda x: x[None], last))


def agent_of(env, **changes):
    config = apply_settings(TINY, {**PROBE, **changes})
    return _PQN(config.learner, env, config.sizes())


def test_returns_of_a_rollout_bootstrap_on_the_best_legal_action_that_follows():
    agent = agent_of(probes.delayed_reward(), **{"target.td_lambda": 0.0, "target.discount": 0.5})
    names = {"target.discount": 0.5, "target.td_lambda": 0.0, "optimizer.learning_rate": 0.0}
    state = agent.init(jax.random.key(0), names)
    # Action 0 is worth ten times what is observed, action 1 five times.
    values = jnp.array([[10.0, 5.0, 1.0]])
    agent.acting.model = dataclasses.replace(
        agent.acting.model,
        represent=lambda params, seen: seen,
        outputs=lambda params, seen: (seen[:, :1] * values)[..., None],
    )
    rollout = rollout_of([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 0.0, 1.0], [False, False, False, True])
    returns = agent.returns(state, rollout)[:, 0]
    # In the state after step 1 action 0 is not legal; step 2 terminates; step 3 is truncated.
    np.testing.assert_allclose(returns, [1 + 5.0, 2 + 0.5 * 10.0, 3.0, 4 + 0.5 * 500.0])


def test_every_epoch_is_a_step_of_the_optimiser_for_each_minibatch():
    config = apply_settings(TINY, {**PROBE, "epochs": {"number": 3, "num_minibatches": 4}})
    config = apply_settings(config, {"training.iterations_per_chunk": 2})
    _, state = trained(probes.action_reward(), config, 1)
    assert int(state.num_updates) == 2 * 3 * 4


def test_the_action_that_matches_the_cue_is_learned():
    env = probes.action_and_observation_reward()
    agent, state = trained(env, apply_settings(TINY, PROBE), 2)
    result = Evaluate(env, agent, EvaluationConfig())(state, jax.random.key(1), 32)
    assert result.scores.mean() == 1.0


def test_a_later_reward_is_valued_through_the_returns():
    env, config = probes.delayed_reward(), apply_settings(TINY, PROBE)
    _, state = trained(env, config, 2)
    model = _PQN(config.learner, env, config.sizes()).acting.model
    values = model.qvalues(state.params, jnp.array([[1.0, 0.0], [1.0, 1.0]])).max(axis=1)
    np.testing.assert_allclose(values * state.reward_unit.size, [0.9, 1.0], atol=0.08)


def test_a_rollout_that_cannot_be_divided_is_refused_in_one_sentence():
    told = "6 steps cannot be divided into epochs.num_minibatches 4"
    with pytest.raises(ConfigError, match=told):
        make_pqn(PQNSettings(), probes.action_reward(), Sizes(num_envs=2, rollout_length=3))
