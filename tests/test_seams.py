"""What an outsider's agent is given: the true state, notes, rollouts, and actions of any kind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outsiders import Throw
from tiny import tiny_spec

from muzero_jax.config import ConfigError, EvaluationConfig, ExperimentConfig, TrainingConfig
from muzero_jax.envs import probes
from muzero_jax.envs.base import make_timestep
from muzero_jax.envs.catch import Catch
from muzero_jax.envs.conformance import check_environment
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.training.data_parallel import make_layout, make_parallel_train
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.loop import make_agent, make_train
from muzero_jax.viewing.play import play_episodes


def config_of(agent, **training):
    """A run of an agent of `outsiders.py`."""
    sizes = {"num_envs": 4, "rollout_length": 8, "iterations_per_chunk": 2} | training
    return ExperimentConfig(agent=f"outsiders:{agent}", training=TrainingConfig(**sizes))


def train(env, config, num_chunks=1):
    """The agent, the state of the run and the metrics of the last chunk."""
    agent = make_agent(config, env)
    functions = make_train(env, agent, config)
    state = jax.jit(functions.init)(jax.random.key(0))
    chunk = jax.jit(functions.train_chunk)
    for _ in range(num_chunks):
        state, metrics = chunk(state)
    return agent, state, metrics


def scores(env, agent, agent_state, num_episodes=32, **settings):
    settings = {"num_episodes": num_episodes, "final_num_episodes": num_episodes} | settings
    evaluate = Evaluate(env, agent, EvaluationConfig(**settings))
    return evaluate(agent_state, jax.random.key(1), num_episodes).scores


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: TimeLimit(env, 9)])
def test_a_planner_looks_ahead_in_the_true_simulator(wrap):
    env = wrap(Catch(4, 3))
    agent, state, metrics = train(env, config_of("LOOKAHEAD"))
    assert metrics["episode/return"] == 1.0 and metrics["train/episodes"] > 4
    np.testing.assert_array_equal(scores(env, agent, state.agent), 1.0)
    played = play_episodes(env, agent, state.agent, episodes=2, max_episode_steps=9)
    assert [episode[-1].returns.tolist() for episode in played] == [[1.0], [1.0]]


@dataclasses.dataclass(frozen=True)
class Signs:
    """Four steps, each of which pays 1 for action 1 and -1 for action 0."""

    spec = tiny_spec(num_actions=2)

    def reset(self, rng_key):
        return jnp.zeros((), jnp.int32), make_timestep(jnp.zeros(2), num_actions=2)

    def step(self, rng_key, state, action):
        reward, state = 2.0 * action - 1.0, state + 1
        ended = state >= 4
        return state, make_timestep(jnp.zeros(2), num_actions=2, reward=reward, terminated=ended)


def test_notes_are_kept_in_an_episode_and_made_anew_where_the_next_begins():
    _, state, _ = train(Signs(), config_of("STICKY"))
    stored = jax.device_get(state.replay.transitions)
    action, noted = stored.action[:16], stored.record[:16]
    begins = np.arange(16) % 4 == 0
    np.testing.assert_array_equal(noted[begins], 0)
    np.testing.assert_array_equal(noted[~begins], action[~begins] + 1)
    by_episode = action.reshape(4, 4, 4)
    np.testing.assert_array_equal(by_episode, by_episode[:, :1].repeat(4, axis=1))
    assert len(np.unique(by_episode[:, 0], axis=0)) > 1


@pytest.mark.parametrize("steps", [4, 2], ids=["ended", "cut"])
def test_an_evaluation_makes_notes_anew_for_each_episode(steps):
    config = config_of("STICKY")
    agent = make_agent(config, Signs())
    state = agent.init(jax.random.key(0), {})
    found = scores(Signs(), agent, state, 24, num_envs=1, max_episode_steps=steps)
    assert set(found) == {-float(steps), float(steps)}


def test_an_agent_without_a_replay_learns_from_rollouts():
    """The critic bootstraps: the first of two states is worth the discount."""
    config = config_of("ACTOR_CRITIC", num_envs=16, iterations_per_chunk=300)
    assert config.replay is None and config.num_updates_per_iteration == 1
    env = probes.delayed_reward()
    agent, state, metrics = train(env, config)
    assert state.replay == () and state.agent.num_updates == 300
    assert metrics["train/num_updates"] == 300 and metrics["loss/critic"] < 0.1
    moment = state.collector.moment
    observation = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    asked = moment.replace(timestep=moment.timestep.replace(observation=observation))
    value = agent.act_greedily(state.agent, jax.random.key(0), asked).value
    np.testing.assert_allclose(value, [0.9, 1.0], atol=0.05)


def test_an_agent_without_a_replay_learns_what_to_do():
    env = probes.action_and_observation_reward()
    config = config_of("ACTOR_CRITIC", num_envs=16, iterations_per_chunk=300)
    agent, state, _ = train(env, config)
    np.testing.assert_array_equal(scores(env, agent, state.agent), 1.0)


def test_actions_of_a_box_are_stored_learned_and_evaluated():
    env = Throw()
    check_environment(env, jax.random.key(0))
    config = config_of("ACTOR_CRITIC", num_envs=32, iterations_per_chunk=600)
    agent, state, metrics = train(env, config)
    before = scores(env, agent, agent.init(jax.random.key(0), state.agent.hyperparameters))
    after = scores(env, agent, state.agent)
    assert before.mean() < -0.4 and after.mean() > -0.05
    # Exploring costs twice the variance of the noise more.
    assert metrics["episode/return"] < after.mean()
    played = play_episodes(env, agent, state.agent, episodes=1, max_episode_steps=9)
    assert len(played[0]) == 2


def test_rollouts_are_learned_from_in_several_shards():
    config = config_of("ACTOR_CRITIC", num_envs=16, num_shards=2, iterations_per_chunk=150)
    layout = make_layout(2, jax.devices()[:1])
    functions = make_parallel_train(probes.constant_reward(), config, layout)
    state = jax.jit(functions.init)(jax.random.key(0))
    state, metrics = jax.jit(functions.train_chunk)(state)
    assert state.collector.episode_step.shape == (2, 8)
    assert metrics["train/num_updates"] == 150 and metrics["loss/critic"] < 0.2


@pytest.mark.parametrize("agent", ["muzero", "table_muzero", "q_learning"])
def test_agents_of_numbered_actions_refuse_a_box(agent):
    told = rf"the agent {agent} takes discrete actions, but the actions of throw are a box of the "
    with pytest.raises(ConfigError, match=told + r"shape \(2,\)") as refused:
        make_agent(ExperimentConfig(agent=agent), Throw())
    assert "\n" not in str(refused.value)
