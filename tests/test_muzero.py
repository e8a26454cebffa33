import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from test_networks import NnxToy
from tiny import (
    Described,
    counting_model,
    gradient_mean,
    make_batch,
    moment_of,
    muzero_agent,
    tiny_config,
    tiny_spec,
)

from muzero_jax.agents.muzero.agent import make_muzero
from muzero_jax.config import ConfigError, traced_settings
from muzero_jax.envs.base import make_timestep
from muzero_jax.networks.factory import model_from_nnx

OBSERVATION = jnp.array([[7.0, 0.0], [1.0, 0.0], [0.0, 0.0]])


def timestep_of(observation, legal=None):
    legal = jnp.ones((len(observation), 3), bool) if legal is None else legal
    return jax.vmap(lambda o, m: make_timestep(o, num_actions=3, legal_action_mask=m))(
        observation, legal
    )


@functools.cache
def make_counting_agent(num_players, sections):
    config = tiny_config(**json.loads(sections))
    config = dataclasses.replace(
        config, target=dataclasses.replace(config.learner.target, discount=0.5)
    )
    model = counting_model(continuation=1.0 if num_players == 1 else -1.0)
    agent = muzero_agent(config, tiny_spec(num_players=num_players), model)
    return config, agent, agent.init(jax.random.key(0), traced_settings(config))


def counting_agent(num_players=1, **sections):
    """MuZero over the model that can be followed with a pencil; the same sections, the same one."""
    return make_counting_agent(num_players, json.dumps(sections))


def act(agent, state, timestep, *, seed=0, explore=False):
    chosen = agent.act if explore else agent.act_greedily
    return jax.jit(chosen)(state, jax.random.key(seed), moment_of(timestep))


@pytest.mark.parametrize("num_players,best", [(1, 2), (2, 0)])
def test_act_reads_reward_and_value_at_the_next_state_with_the_movers_sign(num_players, best):
    """q(a) = (a + 1) +- 0.5 (height + 10 (a + 1)); the sign is that of the player to move next."""
    search = {"num_simulations": 3, "value_scale": 0.01}
    _, agent, state = counting_agent(num_players, search=search)
    output = act(agent, state, timestep_of(OBSERVATION))
    climb = np.arange(1, 4)
    sign = 1 if num_players == 1 else -1
    q = climb + sign * 0.5 * (np.asarray(OBSERVATION[:, :1]) + 10 * climb)
    np.testing.assert_array_equal(output.action, best)
    weights = np.asarray(output.record.action_weights)
    assert (weights > 0.05).all()
    np.testing.assert_allclose(output.record.search_value, (weights * q).sum(-1), rtol=1e-3)
    expected = np.abs(np.asarray(OBSERVATION[:, 0]) - output.record.search_value)
    np.testing.assert_allclose(output.priority, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("policy", ["gumbel", "muzero"])
def test_act_takes_only_legal_actions(policy, explore):
    _, agent, state = counting_agent(search={"policy": policy})
    legal = jnp.array([[True, True, False], [True, False, False], [False, True, False]])
    output = act(agent, state, timestep_of(OBSERVATION, legal), explore=explore)
    assert legal[jnp.arange(3), output.action].all()
    np.testing.assert_array_equal(output.record.action_weights[~legal], 0.0)
    assert jnp.isfinite(output.priority).all()


def test_act_is_greedy_and_noise_free_unless_exploring():
    _, agent, state = counting_agent(search={"value_scale": 1e-4})
    timestep = timestep_of(jnp.tile(OBSERVATION[:1], (32, 1)))
    greedy = [act(agent, state, timestep, seed=seed).action for seed in (0, 1)]
    np.testing.assert_array_equal(*greedy)
    np.testing.assert_array_equal(greedy[0], 2)
    noisy = [act(agent, state, timestep, seed=seed, explore=True).action for seed in (0, 1)]
    assert (noisy[0] != noisy[1]).any() and len(set(np.asarray(noisy[0]))) == 3
    # The scale of the noise is traced.
    quiet = state.hyperparameters | {"search.gumbel_scale": jnp.float32(0.0)}
    still = act(agent, state.replace(hyperparameters=quiet), timestep, explore=True)
    np.testing.assert_array_equal(still.action, 2)


def test_act_takes_a_random_legal_action_with_probability_epsilon():
    _, agent, state = counting_agent(search={"gumbel_scale": 0.0, "num_simulations": 3})
    legal = jnp.tile(jnp.array([[True, False, True]]), (2000, 1))
    timestep = timestep_of(jnp.tile(OBSERVATION[:1], (2000, 1)), legal)

    def share_of_zero(epsilon, explore=True):
        h = state.hyperparameters | {"exploration.epsilon": jnp.float32(epsilon)}
        output = act(agent, state.replace(hyperparameters=h), timestep, explore=explore)
        assert (output.action != 1).all()
        return float((output.action == 0).mean())

    # The search prefers action 2; half of the random draws are the other legal one.
    assert share_of_zero(0.0) == 0.0 and share_of_zero(1.0, explore=False) == 0.0
    assert abs(share_of_zero(1.0) - 0.5) < 0.05
    assert abs(share_of_zero(0.2) - 0.1) < 0.03


def test_act_temperature_falls_linearly_over_the_updates():
    search = {"policy": "muzero", "num_simulations": 9, "dirichlet_fraction": 0.0}
    search |= {"temperature": 1e3, "final_temperature": 0.0}
    config, agent, state = counting_agent(search=search)
    timestep = timestep_of(jnp.tile(OBSERVATION[:1], (64, 1)))

    def actions(num_updates):
        old = state.replace(num_updates=jnp.int32(num_updates))
        return np.asarray(act(agent, old, timestep, explore=True).action)

    greedy = np.asarray(act(agent, state, timestep).action)
    assert len(set(actions(0))) == 3
    np.testing.assert_array_equal(actions(config.num_updates), greedy)
    np.testing.assert_array_equal(actions(10 * config.num_updates), greedy)


K, N = 1, 3
REWARD = np.array([[1.0, 2.0, 4.0, 8.0, 16.0]])


def learned_value(bootstrap, *, num_players=1, truncated_at=None, reanalyse=0.0):
    """`target/value` of a window whose row `r` is observed as `10 r`; fresh values at its ends."""
    target = {"num_unroll_steps": K, "td_steps": N, "bootstrap": bootstrap}
    target["reanalyse_fraction"] = reanalyse
    _, agent, state = counting_agent(num_players, target=target)
    if bootstrap == "target_network":
        state = state.replace(target_params={"scale": jnp.float32(2.0)})
    truncated = np.arange(5)[None] == (-1 if truncated_at is None else truncated_at)
    final = np.array([[70.0, 0.0]])
    batch = make_batch(
        agent.data.spec, 1, 3, reward=REWARD, truncated=truncated, final_observation=final
    )
    output = jax.jit(agent.learn)(state, jax.random.key(0), batch)
    return float(output.metrics["target/value"]), batch, (agent, state)


def fresh_values(agent, state):
    """What a search finds at the end of the window, and at its final observation."""
    params = state.params if state.target_params is None else state.target_params
    root = jnp.array([[10.0 * N, 0.0], [70.0, 0.0]])
    output = act(agent, state.replace(params=params), timestep_of(root))
    return np.asarray(output.record.search_value)


def test_learn_bootstraps_from_the_chosen_source():
    # 1 + 2/2 + 4/4 + v/8
    value, batch, _ = learned_value("search")
    stored = batch.transitions.record.search_value[0, N]
    np.testing.assert_allclose(value, 3 + stored / 8, rtol=1e-5)
    np.testing.assert_allclose(learned_value("network")[0], 3 + 30 / 8, rtol=1e-4)
    np.testing.assert_allclose(learned_value("target_network")[0], 3 + 60 / 8, rtol=1e-4)


@pytest.mark.parametrize("bootstrap,scale", [("search", 1), ("network", 1), ("target_network", 2)])
def test_learn_bootstraps_a_truncation_from_the_final_observation(bootstrap, scale):
    # 1 + (2 + v(70) / 2) / 2
    value, _, _ = learned_value(bootstrap, truncated_at=1)
    np.testing.assert_allclose(value, 2 + scale * 70 / 4, rtol=1e-4)


def test_learn_two_players_alternate_sign():
    # 1 - 2/2 + 4/4 - v/8
    np.testing.assert_allclose(learned_value("network", num_players=2)[0], 1 - 30 / 8, rtol=1e-4)
    truncated, _, _ = learned_value("network", num_players=2, truncated_at=1)
    np.testing.assert_allclose(truncated, 1 - (2 - 70 / 2) / 2, rtol=1e-4)


@pytest.mark.parametrize("bootstrap", ["search", "network", "target_network"])
def test_learn_reanalyses_bootstrap_and_truncation_with_the_bootstraps_parameters(bootstrap):
    value, _, searched = learned_value(bootstrap, reanalyse=1.0)
    fresh = fresh_values(*searched)
    np.testing.assert_allclose(value, 3 + fresh[0] / 8, rtol=1e-4)
    assert abs(fresh[0] - 30) > 1  # the search's value, not the network's
    value, _, _ = learned_value(bootstrap, reanalyse=1.0, truncated_at=1)
    np.testing.assert_allclose(value, 2 + fresh[1] / 4, rtol=1e-4)


def test_learn_asks_nothing_of_a_model_that_is_right():
    """Windows of a process whose dynamics are those of the counting model, with its own values.

    Each term is then the entropy of its labels. A step that is unrolled along the action of another
    one leads to another state, whose reward and value have other labels.
    """
    num_steps, size = 3, 16
    target = {"num_unroll_steps": num_steps, "td_steps": 0, "bootstrap": "search"}
    _, agent, state = counting_agent(target=target)
    rng = np.random.default_rng(0)
    action = rng.integers(0, 3, (size, num_steps + 1))
    reward = action + 1.0
    climbed = 10.0 * np.cumsum(reward, axis=1)[:, :-1]
    height = rng.uniform(0.0, 30.0, (size, 1)) + np.pad(climbed, ((0, 0), (1, 0)))
    batch = make_batch(agent.data.spec, size, 3, action=action.astype(np.int32), reward=reward)
    record = batch.transitions.record.replace(search_value=jnp.float32(height))
    observation = jnp.float32(np.stack([height[:, :1], 0.0 * height[:, :1]], axis=-1))
    transitions = batch.transitions.replace(record=record, observation=observation)
    output = jax.jit(agent.learn)(state, jax.random.key(0), batch.replace(transitions=transitions))

    def entropy(x):
        labels = np.array([reference.two_hot(value, 20) for value in x.ravel()])
        terms = np.where(labels > 0, -labels * np.log(np.maximum(labels, 1e-9)), 0.0)
        return terms.sum(axis=1).reshape(x.shape).mean(axis=0)

    value, paid = entropy(height), entropy(reward[:, :num_steps])
    expected = {"value": value[0] + value[1:].mean(), "reward": paid.mean()}
    for name, number in expected.items():
        np.testing.assert_allclose(output.metrics[f"loss/{name}"], number, atol=1e-3)
    np.testing.assert_allclose(output.priorities, 0.0, atol=0.05)


@functools.cache
def network_agent():
    """MuZero with networks, its compiled `learn`, and a batch."""
    target = {"td_steps": 3, "bootstrap": "target_network", "target_update_rate": 0.25}
    config = tiny_config(target=target, loss={"consistency_weight": 0.5})
    agent = muzero_agent(config, tiny_spec())
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    return config, agent, jax.jit(agent.learn), state, make_batch(agent.data.spec, 8, 3)


def test_learn_moves_parameters_and_lowers_the_loss_of_a_fixed_batch():
    _, _, learn, state, batch = network_agent()
    losses = []
    for step in range(30):
        output = learn(state, jax.random.key(step), batch)
        assert output.state.num_updates == step + 1
        losses.append(float(output.metrics["loss/total"]))
        state = output.state
    assert losses[-1] < losses[0] - 0.5
    assert output.priorities.shape == (8,)
    assert {"loss/policy", "loss/value", "loss/reward", "loss/consistency"} <= set(output.metrics)


@pytest.mark.slow
def test_learn_compiled_equals_uncompiled():
    # Few states and heads: without compiling, each operation is compiled for each of its shapes.
    config = tiny_config(target={"num_unroll_steps": 1, "td_steps": 1, "bootstrap": "network"})
    agent = muzero_agent(config, tiny_spec())
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    batch = make_batch(agent.data.spec, 8, 3)
    compiled = jax.jit(agent.learn)(state, jax.random.key(1), batch)
    plain = agent.learn(state, jax.random.key(1), batch)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, compiled.metrics, plain.metrics)
    # Adam's first step is the sign of each gradient: compare the moments, which are linear in it.
    jax.tree.map(close, *(gradient_mean(o.state.optimizer) for o in (compiled, plain)))


def test_learn_moves_the_slow_parameters_by_their_rate():
    _, _, learn, state, batch = network_agent()
    new = learn(state, jax.random.key(1), batch).state
    expected = jax.tree.map(lambda t, p: 0.75 * t + 0.25 * p, state.target_params, new.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), new.target_params, expected
    )
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), new.target_params, state.target_params)
    assert any(jax.tree.leaves(moved))


def test_learn_priorities_are_the_distances_of_the_roots_values():
    _, agent, state = counting_agent(target={"num_unroll_steps": 1, "td_steps": 1})
    batch = make_batch(agent.data.spec, 4, 3)
    height = jnp.array([0.0, 5.0, 10.0, 20.0])
    observation = batch.transitions.observation.at[:, 0, 0].set(height)
    discount = jnp.zeros_like(batch.transitions.discount)
    transitions = batch.transitions.replace(observation=observation, discount=discount)
    output = jax.jit(agent.learn)(state, jax.random.key(0), batch.replace(transitions=transitions))
    expected = jnp.abs(height - transitions.reward[:, 0])
    np.testing.assert_allclose(output.priorities, expected, rtol=1e-3, atol=1e-3)


def test_learn_weighs_each_window_by_its_importance():
    _, agent, state = counting_agent(target={"num_unroll_steps": 1, "td_steps": 1})
    batch, learn = make_batch(agent.data.spec, 4, 3), jax.jit(agent.learn)
    terms = ("loss/total", "loss/policy", "loss/value", "loss/reward")

    def losses(weights):
        weighed = batch.replace(importance_weights=jnp.array(weights))
        metrics = learn(state, jax.random.key(0), weighed).metrics
        return np.array([metrics[name] for name in terms])

    alone = np.array([losses(np.eye(4, dtype=np.float32)[i]) for i in range(4)])
    assert np.ptp(alone[:, 0]) > 0.1
    weights = np.array([1.0, 0.5, 0.25, 0.0], np.float32)
    np.testing.assert_allclose(losses(weights), weights @ alone, rtol=1e-4)


def test_learn_averages_gradients_and_metrics_over_the_shards():
    """An average over shards that trebles everything makes the gradient three times as long."""
    config, _, learn, state, batch = network_agent()
    treble = config.sizes(lambda tree: jax.tree.map(lambda x: 3.0 * x, tree))
    trebled = make_muzero(config.learner, Described(tiny_spec()), treble)
    plain = learn(state, jax.random.key(0), batch)
    other = jax.jit(trebled.learn)(state, jax.random.key(0), batch)
    for name in ("gradient/norm", "loss/total", "loss/consistency", "target/value"):
        np.testing.assert_allclose(other.metrics[name], 3.0 * plain.metrics[name], rtol=1e-4)


def test_learn_keeps_traced_settings_as_float32_scalars():
    config, _, _, state, _ = network_agent()
    assert set(state.hyperparameters) == set(traced_settings(config))
    for leaf in jax.tree.leaves(state.hyperparameters):
        assert leaf.dtype == jnp.float32 and leaf.shape == () and not leaf.weak_type


def test_init_depends_on_the_key_and_repeats():
    config, agent, _, state, _ = network_agent()
    init = jax.jit(agent.init)
    again = init(jax.random.key(0), traced_settings(config))
    other = init(jax.random.key(1), traced_settings(config))
    jax.tree.map(np.testing.assert_array_equal, state, again)
    differs = jax.tree.map(lambda x, y: bool((x != y).any()), state.params, other.params)
    assert any(jax.tree.leaves(differs))


def test_an_nnx_model_acts_and_learns():
    config = tiny_config()
    spec = tiny_spec(observation_shape=(3,))
    agent = muzero_agent(config, spec, model_from_nnx(NnxToy))
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    timestep = timestep_of(jnp.ones((2, 3)))
    assert act(agent, state, timestep, explore=True).action.shape == (2,)
    batch = make_batch(agent.data.spec, 8, 3)
    observation = jnp.pad(batch.transitions.observation, ((0, 0), (0, 0), (0, 1)))
    batch = batch.replace(transitions=batch.transitions.replace(observation=observation))
    learn = jax.jit(agent.learn)
    losses = []
    for step in range(20):
        output = learn(state, jax.random.key(step), batch)
        state = output.state
        losses.append(float(output.metrics["loss/total"]))
    assert losses[-1] < losses[0]


def test_consistency_needs_a_model_with_projections():
    config = tiny_config(loss={"consistency_weight": 1.0})
    with pytest.raises(ConfigError, match="needs a model with projection heads"):
        muzero_agent(config, tiny_spec(), counting_model())
