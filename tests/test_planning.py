"""Acting by search: where a search has noise, where it must have none, and which masks it takes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import (
    counting_model,
    logits_of,
    make_batch,
    moment_of,
    muzero_agent,
    tiny_config,
    tiny_spec,
)

from muzero_jax.config import traced_settings
from muzero_jax.envs.base import make_timestep

BATCH = 16
PRIOR = jnp.array([0.0, 0.5, 1.0])


def decided_model():
    """The counting model with a prior of its own, so that no search has to break a tie.

    A state is worth its number, and action `a` adds `10 (a + 1)` to it and pays `a + 1`.
    """

    def predict(params, embedding):
        prior = jnp.broadcast_to(PRIOR, (len(embedding), 3))
        return prior, logits_of(params["scale"] * embedding)

    return dataclasses.replace(counting_model(), predict=predict)


@functools.cache
def reanalysing(policy="gumbel", num_simulations=2):
    """MuZero that learns from fresh searches alone: its value target is that of the search."""
    search = {"policy": policy, "num_simulations": num_simulations}
    search |= {"gumbel_scale": 10.0, "dirichlet_fraction": 1.0}
    target = {"num_unroll_steps": 1, "td_steps": 0, "bootstrap": "network", "discount": 0.5}
    config = tiny_config(search=search, target=target | {"reanalyse_fraction": 1.0})
    agent = muzero_agent(config, tiny_spec(), decided_model())
    state = agent.init(jax.random.key(0), traced_settings(config))
    return agent, state, jax.jit(agent.learn)


def batch_of(agent, height, legal=None):
    """Windows that start at the heights, with the masks `[B, A]` at their starts."""
    batch = make_batch(agent.data.spec, BATCH, 3)
    transitions = batch.transitions
    observation = transitions.observation.at[:, 0, 0].set(height)
    mask = transitions.legal_action_mask
    mask = mask if legal is None else mask.at[:, 0].set(legal)
    transitions = transitions.replace(observation=observation, legal_action_mask=mask)
    return batch.replace(transitions=transitions)


def moment_at(height, legal=None):
    observation = jnp.stack([height, jnp.zeros_like(height)], axis=-1)
    legal = jnp.ones((len(height), 3), bool) if legal is None else legal
    step = functools.partial(make_timestep, num_actions=3)
    return moment_of(jax.vmap(lambda o, m: step(o, legal_action_mask=m))(observation, legal))


HEIGHT = jnp.linspace(0.0, 30.0, BATCH)


@pytest.mark.parametrize("policy", ["gumbel", "muzero"])
def test_a_fresh_search_has_no_noise(policy):
    """Targets of Reanalyse are those of greedy play, whatever the key of the update."""
    agent, state, learn = reanalysing(policy)
    batch = batch_of(agent, HEIGHT)
    first, *others = (learn(state, jax.random.key(seed), batch).metrics for seed in range(3))
    for metrics in others:
        assert metrics == first
    greedy = jax.jit(agent.act_greedily)(state, jax.random.key(7), moment_at(HEIGHT))
    np.testing.assert_allclose(first["target/value"], greedy.record.search_value.mean(), rtol=1e-5)
    # Acting has the noise that was left out, so that the search values differ with the key.
    noisy = [
        jax.jit(agent.act)(state, jax.random.key(seed), moment_at(HEIGHT)).record.search_value
        for seed in (0, 1)
    ]
    assert jnp.abs(noisy[0] - noisy[1]).max() > 0.1


def test_a_fresh_search_is_made_under_the_mask_of_its_state():
    """One simulation of the only legal action: its reward, and half the value of what follows."""
    agent, state, learn = reanalysing(num_simulations=1)
    action = jnp.arange(BATCH) % 3
    batch = batch_of(agent, HEIGHT, jax.nn.one_hot(action, 3, dtype=bool))
    metrics = learn(state, jax.random.key(0), batch).metrics
    climb = action + 1
    expected = climb + 0.5 * (HEIGHT + 10 * climb)
    np.testing.assert_allclose(metrics["target/value"], expected.mean(), rtol=1e-3)


def test_planning_is_the_search_of_greedy_play():
    agent, state, _ = reanalysing()
    moment = moment_at(HEIGHT)
    plans = [jax.jit(agent.plan)(state, jax.random.key(seed), moment) for seed in (0, 1)]
    greedy = jax.jit(agent.act_greedily)(state, jax.random.key(2), moment)
    for plan in plans:
        np.testing.assert_array_equal(plan.action, greedy.action)
        np.testing.assert_array_equal(plan.action_weights, greedy.record.action_weights)
        np.testing.assert_array_equal(plan.search_value, greedy.record.search_value)


def test_the_prior_alone_takes_its_likeliest_legal_action():
    agent, state, _ = reanalysing()
    legal = jnp.array([[True, True, True], [True, True, False], [True, False, False]])
    act = jax.jit(agent.greedy["prior"])
    output = act(state, jax.random.key(0), moment_at(HEIGHT[:3], legal))
    np.testing.assert_array_equal(output.action, [2, 1, 0])
    np.testing.assert_allclose(output.value, HEIGHT[:3], rtol=1e-3, atol=1e-3)
