"""DQN: its targets by hand, its switches, and what it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_batch, tiny_spec, trained
from tiny_run import TINY

from muzero_jax.agents.definition import Sizes
from muzero_jax.agents.dqn.agent import make_dqn
from muzero_jax.agents.dqn.losses import dqn_loss, make_q_targets, make_window_spec
from muzero_jax.agents.dqn.settings import DQNSettings, QTargetConfig, QValueConfig, UnrolledConfig
from muzero_jax.config import ConfigError, EvaluationConfig
from muzero_jax.envs import probes
from muzero_jax.envs.registry import make_environment
from muzero_jax.networks.factory import make_model
from muzero_jax.networks.q_networks import make_q_model
from muzero_jax.networks.settings import NetworkConfig
from muzero_jax.settings import apply_settings
from muzero_jax.training.evaluation import Evaluate

NETWORK = NetworkConfig(kind="mlp", embedding_size=16, hidden_sizes=(32,), support_size=5)
OBSERVATION = jax.ShapeDtypeStruct((2,), jnp.float32)
UNROLLED = UnrolledConfig(weight=1.0, num_steps=2)
FINAL = 1000.0


def settings(td_steps=2, unrolled=UNROLLED, **named):
    target = QTargetConfig(td_steps=td_steps, discount=0.5)
    return DQNSettings(network=NETWORK, target=target, unrolled=unrolled, **named)


def q_model(categorical=False, dueling=False, unrolls=False):
    return make_q_model(
        NETWORK, OBSERVATION, 3, categorical=categorical, dueling=dueling, unrolls=unrolls
    )


def targets_of(config, **fields):
    """The targets of one window, in which a state's value is ten times its row."""
    window = make_window_spec(config)
    fields = {name: np.asarray(x) for name, x in fields.items()}
    fields.setdefault("final_observation", np.full((1, 2), FINAL))
    batch = make_batch(window, 1, 3, **fields)
    make = functools.partial(make_q_targets, config, window)
    return jax.jit(lambda t: make(t, 0.5, lambda seen, legal: seen[:, 0]))(batch.transitions)


REWARD = [[1.0, 2.0, 4.0, 8.0, 16.0]]


def test_returns_sum_rewards_up_to_a_bootstrap_for_each_unrolled_state():
    targets = targets_of(settings(), reward=REWARD)
    # Row k: r_k + r_{k + 1} / 2 + 10 (k + 2) / 4.
    np.testing.assert_allclose(targets.value, [[1 + 1 + 5, 2 + 2 + 7.5, 4 + 4 + 10]])
    np.testing.assert_allclose(targets.reward, [[1.0, 2.0]])
    assert targets.value_mask.all()
    assert targets.reward_mask.all()


def test_returns_end_where_an_episode_terminates_and_nothing_follows_it():
    targets = targets_of(settings(), reward=REWARD, discount=[[1.0, 0.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(targets.value, [[1 + 1, 2, 0]])
    assert targets.value_mask.all(), "an absorbing state is worth nothing, and is learned"


def test_a_time_limit_bootstraps_on_the_final_observation_and_hides_what_follows():
    truncated = [[False, True, False, False, False]]
    targets = targets_of(settings(), reward=REWARD, truncated=truncated)
    np.testing.assert_allclose(targets.value[0, :2], [1 + 1 + FINAL / 4, 2 + FINAL / 2])
    np.testing.assert_array_equal(targets.value_mask, [[True, True, False]])
    np.testing.assert_array_equal(targets.reward_mask, [[True, True]])


def test_the_learned_parameters_choose_and_the_slow_ones_value_the_action_if_double():
    model, legal = q_model(), jnp.array([[True, True, True], [True, True, False], [False] * 3])
    learned, slow = jnp.array([0.0, 1.0, 2.0]), jnp.array([5.0, 7.0, 3.0])
    model = model.__class__(
        init=model.init,
        represent=lambda params, seen: seen,
        outputs=lambda params, seen: jnp.broadcast_to(params, (len(seen), 3))[..., None],
        dynamics=model.dynamics,
        support_spacing=1.0,
    )
    find = functools.partial(model.best_values, slow, jnp.zeros((3, 2)), legal)
    np.testing.assert_allclose(find(), [7.0, 7.0, 0.0])
    np.testing.assert_allclose(find(choosing=learned), [3.0, 7.0, 0.0])


def with_random_heads(model, seed=0):
    """Parameters whose heads, which begin at 0, are random."""
    params = model.init(jax.random.key(seed))
    keys = iter(jax.random.split(jax.random.key(seed + 1), len(jax.tree.leaves(params))))
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(next(keys), x.shape), params)


def test_dueling_values_are_the_states_value_where_advantages_are_averaged():
    model = q_model(dueling=True)
    params, seen = with_random_heads(model), jax.random.normal(jax.random.key(5), (4, 2))
    values = model.qvalues(params, seen)
    assert values.std(axis=1).min() > 0.01
    shifted = jax.tree.map(jnp.copy, params)
    head = shifted["params"]["action_head"]["Dense_0"]
    head["bias"] = head["bias"] + 7.0
    np.testing.assert_allclose(model.qvalues(shifted, seen), values, atol=1e-4)
    shifted["params"]["value_head"]["Dense_0"]["bias"] += 1.0
    np.testing.assert_allclose(model.qvalues(shifted, seen), values + 1.0, atol=1e-4)


@pytest.mark.parametrize("unrolls", [False, True])
def test_layers_that_muzero_has_too_begin_with_its_values(unrolls):
    key = jax.random.key(3)
    muzero = make_model(NETWORK, OBSERVATION, 3).init(key)["params"]
    own = q_model(categorical=True, dueling=True, unrolls=unrolls).init(key)["params"]
    shared = {"representation", "representation_out", "prediction_torso", "value_head"}
    shared |= {"transition", "transition_out", "reward_head"} if unrolls else set()
    assert set(own) == shared | {"action_head"}
    for name in shared:
        jax.tree.map(np.testing.assert_array_equal, own[name], muzero[name])


@pytest.mark.parametrize("categorical", [False, True])
def test_the_loss_fits_the_taken_actions_only(categorical):
    config = settings(qvalue=QValueConfig(categorical=categorical, huber_width=0.5))
    model = q_model(categorical=categorical, unrolls=True)
    params, batch = with_random_heads(model), make_batch(make_window_spec(config), 6, 3)
    seen = batch.transitions.observation[:, 0] / 10.0
    targets = make_q_targets(
        config, make_window_spec(config), batch.transitions, 0.5, lambda seen, legal: seen[:, 1]
    )
    scale = {"unrolled.gradient_scale": 0.5}

    def loss(params, targets):
        return dqn_loss(model, params, scale, config, seen, targets, jnp.ones(6))

    total, (metrics, error) = jax.jit(loss)(params, targets)
    np.testing.assert_allclose(total, metrics["loss/value"] + metrics["loss/reward"], rtol=1e-5)
    values = np.asarray(model.qvalues(params, seen))
    taken = values[np.arange(6), targets.action[:, 0]]
    np.testing.assert_allclose(error, np.abs(taken - targets.value[:, 0]), rtol=1e-4)
    hidden = targets.replace(value_mask=jnp.zeros_like(targets.value_mask).at[:, 0].set(True))
    _, (first, _) = jax.jit(loss)(params, hidden)
    if not categorical:
        off = np.abs(taken - np.asarray(targets.value[:, 0]))
        by_hand = np.where(off <= 0.5, 0.5 * off**2, 0.5 * (off - 0.25))
        np.testing.assert_allclose(first["loss/value"], by_hand.mean(), rtol=1e-4)
    assert first["loss/value"] < metrics["loss/value"]


def dqn(**changes):
    """The tiny run's settings with DQN in the place of MuZero; a double underscore is the dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return apply_settings(TINY, {"agent": "dqn", **named})


def test_an_unrolled_loss_that_weighs_nothing_is_no_unrolled_loss():
    env = make_environment("catch")
    _, plain = trained(env, dqn(), 2)
    _, same = trained(env, dqn(unrolled__num_steps=3, unrolled__weight=0.0), 2)
    assert int(plain.num_updates) > 0
    jax.tree.map(np.testing.assert_array_equal, plain.params, same.params)


def test_the_model_shapes_the_representation_and_is_asked_for_no_action():
    env = make_environment("catch")
    config = dqn(unrolled__num_steps=2, unrolled__weight=1.0)
    agent, state = trained(env, config, 2)
    begun = agent.init(jax.random.key(0), state.hyperparameters).params["params"]
    assert not np.array_equal(
        begun["reward_head"]["Dense_0"]["kernel"],
        state.params["params"]["reward_head"]["Dense_0"]["kernel"],
    )
    own = {name for name in state.params["params"] if name in ("transition", "reward_head")}
    broken = {
        name: jax.tree.map(lambda x: x * jnp.nan, layer) if name in own else layer
        for name, layer in state.params["params"].items()
    }
    result = Evaluate(env, agent, EvaluationConfig(num_envs=4))(
        state.replace(params={"params": broken}), jax.random.key(1), 8
    )
    assert np.isfinite(result.scores).all()


PROBE = {
    "network.kind": "mlp",
    "network.embedding_size": 16,
    "network.hidden_sizes": [32],
    "replay": {"capacity": 2048, "min_size": 64, "batch_size": 32, "ratio": 4.0},
    "target": {"discount": 0.9, "target_update_rate": 0.1},
    "optimizer": {"learning_rate": 5e-3, "warmup_updates": 10, "schedule": "constant"},
    "training": {
        "num_envs": 8,
        "rollout_length": 8,
        "iterations_per_chunk": 32,
        "num_env_steps": 2048,
    },
}
RAINBOW = {
    "qvalue": {"categorical": True, "dueling": True},
    "target.double": True,
    "target.td_steps": 3,
    "replay.prioritised": True,
}


def probe_config(**changes):
    return apply_settings(TINY, {"agent": "dqn", **PROBE, **changes})


@pytest.mark.parametrize("added", [{}, RAINBOW], ids=["plain", "rainbow"])
def test_the_action_that_matches_the_cue_is_learned(added):
    env = probes.action_and_observation_reward()
    config = apply_settings(probe_config(), added)
    agent, state = trained(env, config, 2)
    result = Evaluate(env, agent, EvaluationConfig())(state, jax.random.key(1), 32)
    assert result.scores.mean() == 1.0


def test_a_later_reward_is_valued_through_the_bootstrap():
    env = probes.delayed_reward()
    _, state = trained(env, probe_config(), 2)
    seen = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    model = make_q_model(
        probe_config().learner.network,
        OBSERVATION,
        env.spec.num_actions,
        categorical=False,
        dueling=False,
        unrolls=False,
    )
    values = model.qvalues(state.params, seen).max(axis=1) * state.reward_unit.size
    np.testing.assert_allclose(values, [0.9, 1.0], atol=0.08)


def test_what_cannot_be_learned_is_refused_in_one_sentence():
    spec = tiny_spec(num_players=2)
    env = type("Env", (), {"spec": spec})()
    with pytest.raises(ConfigError, match="tasks of one player"):
        make_dqn(DQNSettings(), env, Sizes())
    own = DQNSettings(network=NetworkConfig(kind="my_networks:Network"))
    env = type("Env", (), {"spec": tiny_spec()})()
    with pytest.raises(ConfigError, match="action values cannot use"):
        make_dqn(own, env, Sizes())
