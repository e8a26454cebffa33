"""MuZero learns the probe environments, which say which mechanism is broken, and Catch."""

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.agents.muzero.agent import make_muzero, make_muzero_model
from muzero_jax.config import (
    EvaluationConfig,
    ExperimentConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
    TargetConfig,
    TrainingConfig,
)
from muzero_jax.envs import probes
from muzero_jax.envs.catch import Catch
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.loop import make_train

DISCOUNT = 0.9


def probe_config():
    return ExperimentConfig(
        network=NetworkConfig(kind="mlp", embedding_size=16, hidden_sizes=(32,), support_size=3),
        search=SearchConfig(num_simulations=4),
        replay=ReplayConfig(capacity=2048, min_size=64, batch_size=32, ratio=4.0),
        target=TargetConfig(discount=DISCOUNT, num_unroll_steps=2, td_steps=1, bootstrap="network"),
        optimizer=OptimizerConfig(learning_rate=5e-3, warmup_updates=10, schedule="constant"),
        training=TrainingConfig(
            num_envs=8, rollout_length=8, iterations_per_chunk=32, num_env_steps=2048
        ),
    )


def learn(env, config, num_chunks, seed=0):
    """Trains; returns the agent, its state, and a function from observations to values."""
    model = make_muzero_model(config.learner, env.spec)
    agent = make_muzero(config.learner, env, config.sizes(), model)
    train = make_train(env, agent, config)
    state = jax.jit(train.init)(jax.random.key(seed))
    chunk = jax.jit(train.train_chunk, donate_argnums=0)
    for _ in range(num_chunks):
        state, _ = chunk(state)
    assert state.first_failure.update == -1
    params, unit = state.agent.params, state.agent.reward_unit.size
    infer = jax.jit(lambda rows: unit * model.initial_inference(params, rows).value)
    return agent, state.agent, lambda rows: np.asarray(infer(jnp.array(rows, jnp.float32)))


def greedy_score(env, agent, agent_state):
    config = EvaluationConfig(num_episodes=32, final_num_episodes=32, num_envs=32)
    result = Evaluate(env, agent, config)(agent_state, jax.random.key(1), 32)
    return result.scores.mean()


def test_probe_constant_reward_is_valued_at_one():
    """The value head and its loss. Observations are [cue, step]."""
    _, _, value = learn(probes.constant_reward(), probe_config(), 1)
    np.testing.assert_allclose(value([[1, 0]]), [1.0], atol=0.1)


def test_probe_observation_reward_is_valued_at_the_cue():
    """The value as a function of the observation."""
    _, _, value = learn(probes.observation_reward(), probe_config(), 1)
    np.testing.assert_allclose(value([[1, 0], [-1, 0]]), [1.0, -1.0], atol=0.15)


def test_probe_delayed_reward_is_valued_through_the_bootstrap():
    """One-step targets: the first state's value comes through the second's, discounted once."""
    _, _, value = learn(probes.delayed_reward(), probe_config(), 2)
    np.testing.assert_allclose(value([[1, 1]]), [1.0], atol=0.05)
    np.testing.assert_allclose(value([[1, 0]]), [DISCOUNT], atol=0.04)


def test_probe_action_reward_is_played_right():
    """The search and the policy loss: action 1 pays."""
    env = probes.action_reward()
    agent, state, value = learn(env, probe_config(), 1)
    assert greedy_score(env, agent, state) == 1.0
    np.testing.assert_allclose(value([[1, 0]]), [1.0], atol=0.25)


def test_probe_action_and_observation_reward_is_played_right():
    """The policy as a function of the observation: the action must match the cue."""
    env = probes.action_and_observation_reward()
    agent, state, value = learn(env, probe_config(), 2)
    assert greedy_score(env, agent, state) == 1.0
    np.testing.assert_allclose(value([[1, 0], [-1, 0]]), [1.0, 1.0], atol=0.25)


def catch_config():
    return ExperimentConfig(
        network=NetworkConfig(kind="mlp", embedding_size=32, hidden_sizes=(64,), support_size=5),
        search=SearchConfig(num_simulations=8, min_qvalue_range=0.1),
        replay=ReplayConfig(capacity=8192, min_size=256, batch_size=64, ratio=8.0),
        target=TargetConfig(num_unroll_steps=3, td_steps=5),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_updates=20),
        training=TrainingConfig(
            num_envs=16, rollout_length=8, iterations_per_chunk=16, num_env_steps=8192
        ),
    )


def test_catch_is_learned():
    env = Catch(5, 3)
    config = catch_config()
    agent, state, _ = learn(env, config, config.num_chunks)
    assert greedy_score(env, agent, state) >= 0.95
