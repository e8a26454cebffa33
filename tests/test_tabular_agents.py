"""Learners of tables: against each other, against the exact answers, and in the compiled loop."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.agents.factory import make_agent
from muzero_jax.agents.planning import Planner, SearchRecord, make_muzero_model
from muzero_jax.config import ConfigError, ExperimentConfig, traced_settings
from muzero_jax.core.types import Transition
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.presets import tabular
from muzero_jax.profiling.loop_cost import measure_loop
from muzero_jax.profiling.loop_parts import measure_loop_parts
from muzero_jax.runs.build import build
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.exact_evaluation import make_exact_evaluation
from muzero_jax.tabular.oracle.dynamic_programming import solve
from muzero_jax.tabular.processes.environments import underlying_tabular
from muzero_jax.tabular.seed_curves import learn_curves

KINDS = ("muzero", "q_learning", "dyna_q", "prioritised_sweeping", "rmax")


SAME_STREAM = {
    "search__epsilon": 0.2,
    "replay__batch_size": 10,
    "replay__ratio": 10.0,
    "table__step_size": 0.3,
    "training__iterations_per_chunk": 1000,
}


def table_config(kind: str = "muzero", environment: str = "maze", **settings) -> ExperimentConfig:
    """The preset with other settings, whose dots are written as two underscores."""
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    return apply_settings(tabular("test", environment, kind), changes)


def train(config, num_chunks=1):
    experiment = build(config)
    state = jax.jit(experiment.train.init)(jax.random.key(3))
    chunk = jax.jit(experiment.train.train_chunk)
    for _ in range(num_chunks):
        state, metrics = chunk(state)
    return experiment, state, metrics


@pytest.mark.optimised
def test_dyna_on_the_replayed_pairs_is_replay_bit_for_bit():
    """A deterministic table has no inductive bias: what it makes up is what was stored."""
    _, replay, _ = train(table_config("q_learning", **SAME_STREAM))
    _, dyna, _ = train(table_config("dyna_q", table__backup_pairs="replayed", **SAME_STREAM))
    assert float(jnp.abs(replay.agent.qvalue).max()) > 0.5
    chex.assert_trees_all_equal(replay.agent.qvalue, dyna.agent.qvalue)
    chex.assert_trees_all_equal(replay.env_state, dyna.env_state)


def test_dyna_on_other_pairs_is_not():
    _, replay, _ = train(table_config("q_learning", **SAME_STREAM))
    _, dyna, _ = train(table_config("dyna_q", table__backup_pairs="uniform", **SAME_STREAM))
    assert (replay.agent.qvalue != dyna.agent.qvalue).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_of_a_stochastic_chain_is_close_to_the_truth(kind):
    """Of two outcomes each; where the model is searched as if it had one, only the policy is."""
    config = table_config(
        kind,
        "chain:length=3:slip=0.1:discount=0.9",
        target__discount=0.9,
        table__num_outcomes=4,
        table__optimistic_value=2.0,
        table__known_after=40,
        table__step_size=0.02 if kind in ("q_learning", "muzero") else 0.1,
        table__initial_value=0.0,
        search__epsilon=0.5,
        training__iterations_per_chunk=4_000,
        training__num_env_steps=4_000,
    )
    experiment, state, _ = train(config)
    exact = make_exact_evaluation(experiment.env, experiment.agent)
    metrics = exact.metrics(*jax.jit(exact.answers)(state.agent))
    assert metrics["oracle/policy_regret"] == pytest.approx(0.0, abs=1e-9)
    # MuZero believes that the likeliest outcome always comes.
    assert metrics["oracle/value_rmse"] < (0.25 if kind == "muzero" else 0.06)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most"), [("muzero", 700), ("rmax", 300)])
def test_the_maze_is_solved_in_few_steps(kind, most):
    config = table_config(kind, training__num_env_steps=1_000)
    curves = learn_curves(config, num_seeds=10)
    assert np.median(curves.steps_to(0.99)) <= most
    assert np.median(curves.greedy_return[:, -1]) == pytest.approx(curves.optimal_return)


def test_a_seed_of_the_curves_is_the_run_of_that_seed():
    config = table_config("rmax", training__num_env_steps=200)
    together = learn_curves(config, num_seeds=3)
    alone = learn_curves(dataclasses.replace(config, seed=1), num_seeds=2)
    for name, values in together.metrics.items():
        np.testing.assert_array_equal(values[1], alone.metrics[name][0], err_msg=name)
    assert not np.array_equal(together.greedy_return[0], together.greedy_return[1])


def steps_of_the_maze(num_steps=400):
    """Transitions `[num_steps, 1]` of a random walk, with made-up search policies."""
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
    _, (timestep, action, reward, outcome) = jax.lax.scan(step, first, (keys, actions))
    return Transition(
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


@pytest.mark.parametrize("prior", ["uniform", "action", "search"])
def test_a_table_counts_what_happened_and_what_was_done(prior):
    config, transitions = table_config(table__prior=prior), steps_of_the_maze()
    env = make_environment("maze")
    agent = make_agent(config, env.spec)
    state = agent.init(jax.random.key(0), traced_settings(config))
    params = jax.jit(agent.observe)(state, transitions).params
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
    config = table_config(table__unknown=unknown)
    model = make_muzero_model(config, make_environment("maze").spec)
    params = model.init(jax.random.key(0))
    states = jnp.array([5, 36])
    output = model.recurrent_inference(params, states, jnp.array([2, 2]))
    np.testing.assert_array_equal(output.embedding, [next_state, 36])
    np.testing.assert_array_equal(output.reward, [reward, 0.0])
    assert output.value[1] == 0.0, "the end is worth nothing"
    prepared = model.recurrent_inference(model.prepare(params), states, jnp.array([2, 2]))
    chex.assert_trees_all_equal(prepared, output)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_need_numbered_states(kind):
    config = table_config(kind, training__num_env_steps=100)
    with pytest.raises(ConfigError, match="catch has no numbered states, which tables need"):
        make_agent(config, make_environment("catch").spec)


def test_tables_are_not_spread_over_devices():
    with pytest.raises(ConfigError, match="num_shards must be 1 for learners of tables"):
        table_config(training__num_shards=2, training__num_envs=2, replay__batch_size=4)


def test_one_hot_observations_teach_the_same():
    by_number = train(table_config("rmax", "maze:observation=index"), 2)[1]
    one_hot = train(table_config("rmax", "maze:observation=one_hot"), 2)[1]
    chex.assert_trees_all_equal(by_number.agent, one_hot.agent)


def test_exact_metrics_of_the_optimum_and_of_its_opposite():
    experiment = build(table_config())
    exact = make_exact_evaluation(experiment.env, experiment.agent)
    solution = solve(exact.mdp)
    best = exact.metrics(solution.qvalues.argmax(axis=1), solution.value)
    assert best["oracle/policy_regret"] == pytest.approx(0.0, abs=1e-12)
    assert best["oracle/value_rmse"] == 0.0
    worst = exact.metrics(solution.qvalues.argmin(axis=1), solution.value + 0.5)
    assert worst["oracle/greedy_return"] <= 0.0
    assert worst["oracle/value_rmse"] == pytest.approx(0.5)


def test_only_muzero_is_searched_and_only_networks_are_taken_apart():
    config = table_config("rmax")
    with pytest.raises(ConfigError, match="only agents of kind muzero search, not rmax"):
        Planner(config, make_environment("maze").spec)
    for measure in (measure_loop, measure_loop_parts):
        with pytest.raises(ConfigError, match="test learns tables"):
            measure(table_config())
