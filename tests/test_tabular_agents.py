"""Learners of tables: against each other, against the exact answers, and in the compiled loop."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_spec

from muzero_jax.agents.base import Rollout
from muzero_jax.agents.muzero.planning import SearchRecord
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core.types import Transition
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.wrappers import AutoReset, TimeLimit, Vectorised
from muzero_jax.profiling.loop_cost import measure_loop
from muzero_jax.runs.build import build
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.exact_evaluation import ExactEvaluation
from muzero_jax.tabular.oracle.dynamic_programming import solve
from muzero_jax.tabular.presets import tabular
from muzero_jax.tabular.processes.environments import underlying_tabular
from muzero_jax.tabular.seed_curves import learn_curves
from muzero_jax.tabular.settings import TableConfig
from muzero_jax.tabular.table_model import TableModel, replayed_steps, rollout_steps
from muzero_jax.training.loop import make_agent

AGENTS = ("table_muzero", "q_learning", "dyna_q", "prioritised_sweeping", "rmax")


SAME_STREAM = {
    "exploration__epsilon": 0.2,
    "replay__batch_size": 10,
    "replay__ratio": 10.0,
    "table__step_size": 0.3,
    "training__iterations_per_chunk": 1000,
}


def table_config(
    agent: str = "table_muzero", environment: str = "maze", **settings
) -> ExperimentConfig:
    """The preset with other settings, whose dots are written as two underscores."""
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    return apply_settings(tabular("test", environment, agent), changes)


def train(config, num_chunks=1):
    experiment = build(config)
    state = jax.jit(experiment.train.init)(jax.random.key(3))
    chunk = jax.jit(experiment.train.train_chunk)
    for _ in range(num_chunks):
        state, metrics = chunk(state)
    return experiment, state, metrics


@pytest.mark.optimised
def test_dyna_on_the_replayed_pairs_is_replay_bit_for_bit_and_on_others_it_is_not():
    """A deterministic table has no inductive bias: what it makes up is what was stored."""
    _, replay, _ = train(table_config("q_learning", **SAME_STREAM))
    _, dyna, _ = train(table_config("dyna_q", table__backup_pairs="replayed", **SAME_STREAM))
    assert float(jnp.abs(replay.agent.qvalue).max()) > 0.5
    chex.assert_trees_all_equal(replay.agent.qvalue, dyna.agent.qvalue)
    chex.assert_trees_all_equal(replay.collector.env_state, dyna.collector.env_state)
    _, other, _ = train(table_config("dyna_q", table__backup_pairs="uniform", **SAME_STREAM))
    assert (replay.agent.qvalue != other.agent.qvalue).any()


OF_THE_CHAIN = {
    "table_muzero": {
        "table__num_outcomes": 4,
        "table__step_size": 0.02,
        "table__initial_value": 0.0,
        "table__optimistic_value": 2.0,
        "exploration__epsilon": 0.5,
    },
    "q_learning": {"table__step_size": 0.02},
    "dyna_q": {"table__num_outcomes": 4, "table__step_size": 0.1},
    "prioritised_sweeping": {"table__num_outcomes": 4, "table__step_size": 0.1},
    "rmax": {"table__num_outcomes": 4, "table__known_after": 40, "table__optimistic_value": 2.0},
}


@pytest.mark.parametrize("agent", AGENTS)
def test_what_was_learned_of_a_stochastic_chain_is_close_to_the_truth(agent):
    """Of two outcomes each; where the model is searched as if it had one, only the policy is."""
    settings = OF_THE_CHAIN[agent]
    if agent != "table_muzero":
        settings = settings | {"exploration__epsilon": 0.5}
    config = table_config(
        agent,
        "chain:length=3:slip=0.1:discount=0.9",
        target__discount=0.9,
        training__iterations_per_chunk=4_000,
        training__num_env_steps=4_000,
        **settings,
    )
    experiment, state, _ = train(config)
    exact = ExactEvaluation(experiment.env, experiment.agent)
    metrics = exact.metrics(jax.jit(exact.answers)(state.agent, jax.random.key(0)))
    assert metrics["oracle/policy_regret"] == pytest.approx(0.0, abs=1e-9)
    # MuZero believes that the likeliest outcome always comes.
    assert metrics["oracle/value_rmse"] < (0.25 if agent == "table_muzero" else 0.06)


@functools.cache
def curves_of_the_maze(agent, first_seed):
    """Curves of eight seeds, which end when most of them have found the optimum."""

    def solved(greedy_return):
        return np.repeat((greedy_return > 0.9373).mean() > 0.6, len(greedy_return))

    config = table_config(agent, training__num_env_steps=1_000)
    return learn_curves(dataclasses.replace(config, seed=first_seed), 8, solved=solved)


@pytest.mark.parametrize(("agent", "most"), [("table_muzero", 700), ("rmax", 300)])
def test_the_maze_is_solved_in_few_steps(agent, most):
    curves = curves_of_the_maze(agent, first_seed=0)
    assert np.median(curves.steps_to(0.99)) <= most
    assert np.median(curves.greedy_return[:, -1]) == pytest.approx(curves.optimal_return)


def test_a_seed_of_the_curves_is_the_run_of_that_seed():
    curves, later = (curves_of_the_maze("rmax", first_seed=seed) for seed in (0, 1))
    num_points = min(len(curves.env_steps), len(later.env_steps))
    for name, values in curves.metrics.items():
        theirs = later.metrics[name][:-1, :num_points]
        np.testing.assert_array_equal(values[1:, :num_points], theirs, err_msg=name)
    assert not np.array_equal(curves.greedy_return[0], curves.greedy_return[1])


def rollout_of_the_maze(num_steps=400):
    """A random walk in one environment, with made-up search policies."""
    env = Vectorised(AutoReset(make_environment("maze:observation=index")), 1)
    rng = np.random.default_rng(0)
    policies = rng.dirichlet(np.ones(4), (num_steps, 1)).astype(np.float32)
    first = env.reset(jax.random.key(0))

    def step(carry, inputs):
        (state, timestep), (key, action) = carry, inputs
        state, following = env.step(key, state, action)
        outcome = state.outcome
        made = (timestep, action, outcome.reward[:, 0], outcome)
        return (state, following), made

    keys = jax.random.split(jax.random.key(1), num_steps)
    actions = jnp.asarray(rng.integers(0, 4, (num_steps, 1)), jnp.int32)
    (_, last), (timestep, action, reward, outcome) = jax.lax.scan(step, first, (keys, actions))
    transitions = Transition(
        observation=timestep.observation,
        legal_action_mask=timestep.legal_action_mask,
        to_play=timestep.to_play,
        action=action,
        reward=reward,
        discount=outcome.discount,
        truncated=outcome.truncated,
        final_observation=outcome.observation,
        record=SearchRecord(jnp.asarray(policies), jnp.zeros((num_steps, 1))),
    )
    return Rollout(transitions, jnp.ones((num_steps, 1)), last)


@pytest.mark.parametrize("prior", ["uniform", "action", "search"])
def test_a_table_counts_what_happened_and_what_was_done(prior):
    config, rollout = table_config(table__prior=prior), rollout_of_the_maze()
    env, transitions = make_environment("maze"), rollout.transitions
    agent = make_agent(config, env)
    state = agent.init(jax.random.key(0), traced_settings(config))
    params = jax.jit(agent.observe)(state, rollout).params
    mdp, model = underlying_tabular(env).mdp, params.model
    known = np.asarray(model.visits) > 0
    truth = np.where(mdp.terminates, mdp.num_states, mdp.next_state)
    np.testing.assert_array_equal(np.asarray(model.next_state)[known], truth[known])
    np.testing.assert_allclose(np.asarray(model.reward)[known], mdp.reward[known])
    assert 50 < known.sum() < known.size and model.visits.sum() == 400
    expected = np.ones((37, 4))
    origin, action = np.asarray(transitions.observation)[:, 0], np.asarray(transitions.action)[:, 0]
    if prior == "action":
        np.add.at(expected, (origin, action), 1.0)
    if prior == "search":
        np.add.at(expected, origin, np.asarray(transitions.record.action_weights)[:, 0])
    np.testing.assert_allclose(params.policy_count, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("unknown", "reward", "next_state"),
    [("pessimistic", 0.0, 36), ("self_loop", 0.0, 5), ("optimistic", 1.0, 36)],
)
def test_what_planning_takes_the_unknown_for(unknown, reward, next_state):
    model = TableModel(TableConfig(unknown=unknown), num_states=36, num_actions=4)
    params = model.init()
    states, actions = jnp.array([5, 36]), jnp.array([2, 2])
    step = model.recurrent_fn(0.9)
    output, following = step(model.prepare(params), jax.random.key(0), actions, states)
    np.testing.assert_array_equal(following, [next_state, 36])
    np.testing.assert_array_equal(output.reward, [reward, 0.0])
    np.testing.assert_allclose(output.discount, 0.9)
    assert output.value[1] == 0.0, "the end is worth nothing"


@pytest.mark.parametrize("agent", AGENTS)
def test_tables_need_numbered_states(agent):
    config = table_config(agent, training__num_env_steps=100)
    with pytest.raises(ConfigError, match="catch has no numbered states, which tables need"):
        make_agent(config, make_environment("catch"))


def test_tables_need_states_that_are_shown_by_their_numbers():
    @dataclasses.dataclass(frozen=True)
    class Wide:
        spec = tiny_spec()
        num_states = 5

    told = r"tiny has 5 states, but observations of the shape \(2,\); tables need .* \(5,\)"
    with pytest.raises(ConfigError, match=told):
        make_agent(table_config("q_learning"), TimeLimit(Wide(), 3))


def test_tables_are_not_spread_over_devices():
    with pytest.raises(ConfigError, match="num_shards must be 1 for the agent table_muzero"):
        table_config(training__num_shards=2, training__num_envs=2, replay__batch_size=4)


def test_one_hot_observations_teach_the_same():
    rollout = rollout_of_the_maze()

    def one_hot(numbers):
        return jax.nn.one_hot(numbers, 36, dtype=bool)

    transitions = rollout.transitions.replace(
        observation=one_hot(rollout.transitions.observation),
        final_observation=one_hot(rollout.transitions.final_observation),
    )
    timestep = rollout.timestep.replace(observation=one_hot(rollout.timestep.observation))
    steps = rollout_steps(rollout, 36)
    shown = rollout.replace(transitions=transitions, timestep=timestep)
    chex.assert_trees_all_equal(rollout_steps(shown, 36), steps)
    assert rollout.transitions.truncated.any()
    # Windows of two steps; the final observation is that of the first step here.
    windows = jax.tree.map(lambda x: jnp.stack([x[:-1, 0], x[1:, 0]], axis=1), transitions)
    windows = windows.replace(final_observation=transitions.final_observation[:-1, 0])
    chex.assert_trees_all_equal(replayed_steps(windows, 36), jax.tree.map(lambda x: x[:-1], steps))


def test_exact_metrics_of_the_optimum_and_of_its_opposite():
    experiment = build(table_config())
    exact = ExactEvaluation(experiment.env, experiment.agent)
    solution = solve(exact.mdp)
    best = exact.metrics({"action": solution.qvalues.argmax(axis=1), "value": solution.value})
    assert best["oracle/policy_regret"] == pytest.approx(0.0, abs=1e-12)
    assert best["oracle/value_rmse"] == 0.0
    opposite = solution.qvalues.argmin(axis=1)
    worst = exact.metrics({"action": opposite, "value": solution.value + 0.5})
    assert worst["oracle/greedy_return"] <= 0.0
    assert worst["oracle/value_rmse"] == pytest.approx(0.5)
    assert "oracle/value_rmse" not in exact.metrics({"action": opposite})


def test_a_loop_without_described_networks_is_split_but_has_no_efficiency():
    cost = measure_loop(table_config("q_learning", training__num_env_steps=100), num_repeats=1)
    assert set(cost.parts) == {"environment", "acting", "learning"}
    assert cost.loop_efficiency is None and cost.network_seconds is None
    assert cost.simulations == cost.simulations_per_second == 0
    assert all("environment" in line for line in cost.advice())


def test_only_agents_that_plan_have_a_search_to_look_into():
    env = make_environment("maze:observation=index")
    planners = [name for name in AGENTS if make_agent(table_config(name), env).plan is not None]
    assert planners == ["table_muzero"]
