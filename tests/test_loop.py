"""The fused loop: what it stores, counts and refuses; a scripted agent first, then MuZero."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from tiny import gradient_mean, scripted_agent, tiny_config, with_replay

import muzero_jax.agents.muzero.planning
import muzero_jax.training.collect
from muzero_jax.config import ConfigError, EvaluationConfig
from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.envs.catch import Catch
from muzero_jax.envs.tic_tac_toe import TicTacToe
from muzero_jax.envs.wrappers import AutoReset, TimeLimit
from muzero_jax.replay.buffer import WindowSpec
from muzero_jax.search.policies import SearchOutput
from muzero_jax.training.evaluation import Evaluate
from muzero_jax.training.learn import make_loop_replay
from muzero_jax.training.loop import make_agent, make_train


class WalkState(struct.PyTreeNode):
    start: jax.Array
    step: jax.Array


@dataclasses.dataclass(frozen=True)
class Walk:
    """Five steps; the observation is `[start, step]`, a step pays `10 step + action`."""

    spec = EnvironmentSpec("walk", (2,), "float32", num_actions=2)

    def _timestep(self, state, **fields):
        observation = jnp.stack([state.start, state.step.astype(jnp.float32)])
        return make_timestep(observation, num_actions=2, **fields)

    def reset(self, rng_key):
        state = WalkState(jax.random.uniform(rng_key), jnp.zeros((), jnp.int32))
        return state, self._timestep(state)

    def step(self, rng_key, state, action):
        reward = 10.0 * state.step + action
        state = state.replace(step=state.step + 1)
        return state, self._timestep(state, reward=reward, terminated=state.step >= 5)


def parity(rng_key, timestep, explore):
    """Action 1 on odd steps: a function of what is observed."""
    return timestep.observation[:, 1] % 2


def constant_learning(state, rng_key, batch):
    priorities = jnp.full(batch.index.shape, 7.0)
    return {"loss/reward": batch.transitions.reward.mean()}, priorities


def run(env, agent, config, num_chunks=1, seed=0, **settings):
    train = make_train(env, with_replay(agent, config), config)
    chunk = jax.jit(train.train_chunk)
    state = jax.jit(train.init)(jax.random.key(seed), settings)
    metrics = []
    for _ in range(num_chunks):
        state, values = chunk(state)
        metrics.append(jax.device_get(values))
    return train, state, metrics


SCRIPTED = scripted_agent(parity, learn_fn=constant_learning, window=WindowSpec(2, (0,)))


@pytest.mark.parametrize("max_steps,last_step", [(3, 3), (99, 5)])
def test_stored_transitions_join_up_and_fresh_states_are_not_terminal(max_steps, last_step):
    env = TimeLimit(Walk(), max_steps)
    _, state, _ = run(env, SCRIPTED, tiny_config())
    stored = jax.device_get(state.replay.transitions)
    step = np.arange(16)[:, None] % last_step
    ends = np.broadcast_to(step == last_step - 1, (16, 4))
    np.testing.assert_array_equal(stored.observation[:16, :, 1], np.broadcast_to(step, (16, 4)))
    np.testing.assert_array_equal(stored.action[:16], np.broadcast_to(step % 2, (16, 4)))
    np.testing.assert_array_equal(stored.reward[:16], 10.0 * step + stored.action[:16])
    np.testing.assert_array_equal(stored.discount[:16], np.where(ends & (last_step == 5), 0, 1))
    np.testing.assert_array_equal(stored.truncated[:16], ends & (last_step == 3))
    assert stored.legal_action_mask[:16].all()
    # The final observation is the one before the reset; the next row is a fresh episode's.
    final, seen = stored.final_observation[:16], stored.observation[:16]
    np.testing.assert_array_equal(final[..., 1], seen[..., 1] + 1)
    np.testing.assert_array_equal(final[..., 0], seen[..., 0])
    same_start = stored.observation[1:16, :, 0] == stored.observation[:15, :, 0]
    np.testing.assert_array_equal(same_start, ~ends[:15])
    # What the loop acts on next: 16 steps in, and not terminal where the episode goes on.
    np.testing.assert_array_equal(state.collector.timestep.observation[:, 1], 16 % last_step)
    assert (state.collector.timestep.discount == 1.0).all()


def test_a_run_without_truncations_and_failures_says_so():
    train, state, _ = run(Walk(), SCRIPTED, tiny_config())
    assert state.replay.transitions.final_observation is None
    assert state.first_failure.update == -1
    assert train.learn_metric_names == ("loss/reward",)


def test_a_ring_that_cannot_hold_a_window_is_refused():
    agent = scripted_agent(parity, learn_fn=constant_learning, window=WindowSpec(33, (0,)))
    agent = with_replay(agent, tiny_config())
    with pytest.raises(ConfigError, match=r"\(128\) over 4 environments keeps 32 .* needs 33"):
        make_train(Walk(), agent, tiny_config())


def test_counts_and_episode_metrics_by_hand():
    config = tiny_config(replay={"min_size": 40})
    _, state, metrics = run(Walk(), SCRIPTED, config, num_chunks=2)
    # A chunk is 4 iterations of 4 steps of 4 environments; 2 updates follow each iteration once
    # 40 transitions, that is 10 rows, are held: from the third on.
    assert int(state.num_env_steps) == 128
    assert [m["train/num_updates"] for m in metrics] == [4, 8]
    assert state.agent.num_updates == 12
    # 16 steps finish 3 episodes of 5 in each of 4 environments, 32 finish 6.
    assert [m["train/episodes"] for m in metrics] == [12, 12]
    # 0 + 11 + 20 + 31 + 40
    for m in metrics:
        np.testing.assert_allclose([m["episode/return"], m["episode/length"]], [102.0, 5.0])
    np.testing.assert_array_equal(state.collector.episode_step, 32 % 5)
    np.testing.assert_array_equal(state.collector.episode_return, 0.0 + 11.0)


def test_metrics_of_what_did_not_happen_are_nan():
    config = tiny_config(replay={"min_size": 128})
    _, _, (metrics,) = run(Walk(), SCRIPTED, config)
    assert metrics["train/num_updates"] == 0 and np.isnan(metrics["loss/reward"])


@pytest.mark.parametrize(
    "cells,winner", [([0, 1, 3, 2, 6], 0), ([0, 3, 1, 4, 8, 5], 1)], ids=["first", "second"]
)
def test_reward_is_that_of_the_player_who_moved(cells, winner):
    def next_cell(rng_key, timestep, explore):
        return jnp.array(cells)[timestep.observation.sum(axis=(1, 2, 3), dtype=jnp.int32)]

    agent = scripted_agent(next_cell, num_actions=9, learn_fn=constant_learning)
    _, state, _ = run(TicTacToe(), agent, tiny_config())
    stored = jax.device_get(state.replay.transitions)
    length = len(cells)
    first = slice(0, length + 1)
    np.testing.assert_array_equal(stored.action[first, 0], [*cells, 0])
    # Who wins has moved last, and is paid; the next row is the first player's, in a new game.
    is_last = np.arange(length + 1) == length - 1
    np.testing.assert_array_equal(stored.reward[first, 0], is_last)
    np.testing.assert_array_equal(stored.discount[first, 0], ~is_last)
    np.testing.assert_array_equal(stored.to_play[first, 0], [*(np.arange(length) % 2), 0])
    assert stored.to_play[length - 1, 0] == winner
    np.testing.assert_array_equal(stored.legal_action_mask[length, 0], True)
    # The mask of a row is that of the state whose observation is stored: its free cells.
    free = stored.observation[first, 0].sum(axis=-1).reshape((length + 1, 9)) == 0
    np.testing.assert_array_equal(stored.legal_action_mask[first, 0], free)


def test_priorities_of_acting_are_stored_and_those_of_learning_written_back():
    config = tiny_config(replay={"prioritised": True, "min_size": 64})
    _, state, _ = run(Walk(), SCRIPTED, config)
    priorities = np.asarray(state.replay.priorities[:16])
    learned = priorities == 7.0
    assert 0 < learned.sum() <= 16  # two updates of eight windows, after the last rollout
    actions = np.asarray(state.replay.transitions.action[:16])
    np.testing.assert_array_equal(priorities[~learned], actions[~learned])
    _, state, _ = run(Walk(), SCRIPTED, tiny_config(replay={"min_size": 64}))
    np.testing.assert_array_equal(state.replay.priorities[:16], actions)


NAMES = ("gradient/norm", "loss/policy", "loss/total", "loss/value", "target/value")
FAILURES = [
    ({"loss/value", "loss/total", "gradient/norm"}, "loss/value"),
    ({"loss/total", "gradient/norm"}, "loss/total"),
    ({"gradient/norm"}, "gradient/norm"),
    ({"target/value", "loss/value", "loss/total", "gradient/norm"}, "target/value"),
]


def test_first_failure_names_update_and_culprit_and_is_not_applied():
    is_bad = jnp.array([[name in bad for name in NAMES] for bad, _ in FAILURES])

    def learn_fn(state, rng_key, batch):
        fails = state.num_updates == 3
        # The number of the failure comes as a traced setting, so that one program serves all.
        number = state.hyperparameters["optimizer.learning_rate"].astype(jnp.int32)
        values = jnp.where(fails & is_bad[number], jnp.nan, 1.0)
        metrics = dict(zip(NAMES, values, strict=True))
        return metrics, jnp.full(batch.index.shape, jnp.where(fails, jnp.nan, 7.0))

    config = tiny_config(replay={"prioritised": True})
    agent = with_replay(scripted_agent(parity, learn_fn=learn_fn), config)
    train = make_train(Walk(), agent, config)
    init, chunk = jax.jit(train.init), jax.jit(train.train_chunk)
    for number, (_, culprit) in enumerate(FAILURES):
        state = init(jax.random.key(0), {"optimizer.learning_rate": float(number)})
        state, _ = chunk(state)
        assert state.first_failure.update == 3
        assert train.learn_metric_names[int(state.first_failure.term)] == culprit
        # Neither that update nor a later one was applied, and its windows lost their priority.
        assert state.agent.num_updates == 3
        assert jnp.isfinite(state.replay.priorities).all()


def test_nothing_is_learned_after_a_failure_that_passes():
    """The batch of update 3 is bad, those of later ones are not."""
    seen = []

    def learn_fn(state, rng_key, batch):
        first = jax.pure_callback(
            lambda n: np.bool_(seen.append(int(n)) or (seen.count(3) == 1 and n == 3)),
            jax.ShapeDtypeStruct((), bool),
            state.num_updates,
        )
        return {"loss/value": jnp.where(first, jnp.nan, 1.0)}, jnp.ones(batch.index.shape)

    _, state, _ = run(Walk(), scripted_agent(parity, learn_fn=learn_fn), tiny_config())
    assert seen.count(3) > 1
    assert state.first_failure.update == 3 and state.agent.num_updates == 3


def test_unknown_traced_settings_are_refused():
    train = make_train(Walk(), SCRIPTED, tiny_config())
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        train.init(jax.random.key(0), {"optimizer.lr": 0.1})


# From here on: MuZero itself, on an environment with terminations, truncations and all the parts.


def muzero_config(**replay):
    return tiny_config(
        replay={"prioritised": True} | replay,
        target={"bootstrap": "target_network", "reanalyse_fraction": 0.25},
    )


@functools.cache
def muzero_train():
    env = TimeLimit(Catch(4, 3), 3)
    config = muzero_config()
    return make_train(env, make_agent(config, env), config)


@functools.cache
def compiled():
    """`init` and `train_chunk`, compiled once for all tests; a second trace is an error."""
    train = muzero_train()
    chunk = chex.assert_max_traces(train.train_chunk, n=1)
    return jax.jit(train.init), jax.jit(chunk, donate_argnums=0)


@functools.cache
def trained(seed, **settings):
    init, chunk = compiled()
    state = init(jax.random.key(seed), dict(settings))
    for _ in range(2):
        state, metrics = chunk(state)
    return jax.device_get((state, metrics))


def assert_equal_trees(one, two):
    def compare(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)

    jax.tree.map(compare, one, two)


def test_train_chunk_is_traced_once_and_its_state_donated():
    init, chunk = compiled()
    state = init(jax.random.key(3))
    replayed = state.replay.priorities
    for _ in range(3):
        state, _ = chunk(state)
    assert replayed.is_deleted()
    # A state that has been to the host and back, as after a checkpoint, is no reason to retrace.
    host = jax.tree.map(
        lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.asarray(np.asarray(x)),
        state,
    )
    chunk(host)
    fresh = jax.tree.map(lambda x: getattr(x, "weak_type", False), init(jax.random.key(0)))
    assert not any(jax.tree.leaves(fresh))


def test_same_seed_repeats_bit_for_bit():
    one = trained(0)
    trained.cache_clear()
    assert_equal_trees(one, trained(0))
    assert one[1]["train/num_updates"] == 8
    assert all(np.isfinite(x) for x in one[1].values())


def test_different_seeds_differ_in_parameters_and_actions():
    (one, _), (two, _) = trained(0), trained(1)
    pairs = zip(*(jax.tree.leaves(state.agent.params) for state in (one, two)), strict=True)
    assert all((x != y).any() for x, y in pairs)
    assert (one.replay.transitions.action != two.replay.transitions.action).any()
    init, _ = compiled()
    first = [init(jax.random.key(seed)) for seed in (0, 1)]
    kernels = [jax.tree.leaves(state.agent.params) for state in first]
    assert any((x != y).any() for x, y in zip(*kernels, strict=True))
    assert (
        first[0].collector.timestep.observation != first[1].collector.timestep.observation
    ).any()


def test_acting_and_learning_change_the_parameters_and_the_target_follows():
    state, _ = trained(0)
    moved = jax.tree.map(
        lambda p, t: bool((p != t).any()), state.agent.params, state.agent.target_params
    )
    assert any(jax.tree.leaves(moved))
    assert state.agent.num_updates == 14


@functools.cache
def together_and_alone(train):
    """`init` and `train_chunk`, vmapped and not, compiled once."""
    functions = (train.init, train.train_chunk)
    return [jax.jit(jax.vmap(f)) for f in functions] + [jax.jit(f) for f in functions]


@functools.cache
def muzero_with_one_update():
    env = TimeLimit(Catch(4, 3), 3)
    config = muzero_config(min_size=64, batch_size=16)
    return make_train(env, make_agent(config, env), config)


def members_and_singles(train, seeds, settings, num_chunks=1):
    """The state of a vmapped group, and those of its members run alone."""
    init_all, together, init, alone = together_and_alone(train)
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    group = init_all(keys, {k: jnp.array(v) for k, v in settings.items()})
    singles = [
        init(jax.random.key(seed), {k: v[i] for k, v in settings.items()})
        for i, seed in enumerate(seeds)
    ]
    for _ in range(num_chunks):
        group, _ = together(group)
        singles = [alone(state)[0] for state in singles]
    members = [jax.tree.map(lambda x, i=i: x[i], group) for i in range(len(seeds))]
    return list(zip(members, singles, strict=True))


@pytest.mark.optimised
def test_vmapped_loop_equals_the_single_runs_bit_for_bit():
    """Acting, environments, replay, priorities and keys: everything but matrix products."""

    def at_random(rng_key, timestep, explore):
        return jax.random.bernoulli(rng_key, 0.5, timestep.to_play.shape)

    def learn_fn(state, rng_key, batch):
        noise = jax.random.uniform(rng_key)
        scale = state.hyperparameters["optimizer.learning_rate"]
        return {"loss/noise": noise}, scale * batch.transitions.observation[:, 0, 0]

    agent = scripted_agent(at_random, learn_fn=learn_fn, window=WindowSpec(3, (0,)))
    config = tiny_config(replay={"prioritised": True})
    train = make_train(TimeLimit(Walk(), 3), with_replay(agent, config), config)
    settings = {"optimizer.learning_rate": [1.0, 1.0, 5.0]}
    settings["replay.priority_exponent"] = [1.0, 1.0, 0.5]
    pairs = members_and_singles(train, [0, 1, 1], settings, num_chunks=3)
    for member, single in pairs:
        assert_equal_trees(member, single)
    (one, _), (two, _), (three, _) = pairs
    assert (one.replay.transitions.action != two.replay.transitions.action).any()
    assert (two.replay.priorities != three.replay.priorities).any()


@pytest.mark.optimised
@pytest.mark.parametrize("what", ["seeds", "settings"])
def test_vmapped_muzero_equals_the_single_runs(what):
    """Three iterations of acting alone, then one more with a single update.

    All that is acted and stored is equal bit for bit. A batched matrix product adds in another
    order than a single one, so that gradients agree to rounding only (float32, 1e-4 of the largest
    entry), and later updates would magnify that: Adam turns a gradient of 1e-9 into a whole step.
    """
    seeds = [0, 1]
    settings = {"optimizer.learning_rate": [1e-2, 1e-2], "search.gumbel_scale": [1.0, 1.0]}
    settings |= {"target.discount": [0.9, 0.9], "loss.value_weight": [0.25, 0.25]}
    if what == "settings":
        seeds = [0, 0]
        settings = {"optimizer.learning_rate": [1e-2, 3e-3], "search.gumbel_scale": [1.0, 0.2]}
        settings |= {"target.discount": [0.9, 0.5], "loss.value_weight": [0.25, 1.0]}
    pairs = members_and_singles(muzero_with_one_update(), seeds, settings)
    for member, single in pairs:
        assert member.agent.num_updates == single.agent.num_updates == 1
        assert_equal_trees(acted(member), acted(single))
        records = member.replay.transitions.record, single.replay.transitions.record
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), *records)
        means = gradient_mean(member.agent.optimizer), gradient_mean(single.agent.optimizer)
        jax.tree.map(assert_close_to_largest, *means)
        assert_equal_trees(member.agent.hyperparameters, single.agent.hyperparameters)
    (one, _), (two, _) = pairs
    means = [jax.tree.leaves(gradient_mean(state.agent.optimizer)) for state in (one, two)]
    assert any(jnp.abs(x - y).max() > 1e-4 for x, y in zip(*means, strict=True))
    same = (one.replay.transitions.action == two.replay.transitions.action).all()
    assert same == (what == "settings")  # a flat prior: its noise has no scale


def acted(state):
    """All that came of acting, but for the floats of the searches."""
    return (
        state.replay.transitions.replace(record=None),
        state.collector.timestep,
        state.collector.rng_key,
    )


def assert_close_to_largest(x, y):
    np.testing.assert_allclose(x, y, atol=1e-4 * float(jnp.abs(y).max()) + 1e-9)


class SelectReset(AutoReset):
    """`AutoReset` without a `cond`."""

    def step(self, rng_key, state, action):
        step_key, reset_key = jax.random.split(rng_key)
        env_state, outcome = self.env.step(step_key, state.env_state, action)
        fresh = self.env.reset(reset_key)
        choose = functools.partial(jnp.where, outcome.last)
        env_state, timestep = jax.tree.map(choose, fresh, (env_state, outcome))
        return state.replace(env_state=env_state, outcome=outcome), timestep


def test_no_key_is_used_twice(monkeypatch):
    """A vmapped `cond` looks like a second use to JAX: those of mctx and AutoReset are replaced."""

    def make_search(config):
        def search(params, rng_key, root, recurrent_fn, legal_action_mask, noise):
            action = jax.random.categorical(rng_key, root.prior_logits).astype(jnp.int32)
            weights = jax.nn.softmax(root.prior_logits)
            return SearchOutput(action, weights, root.value, root.value, root.value, tree=None)

        return search

    monkeypatch.setattr(muzero_jax.agents.muzero.planning, "make_search", make_search)
    monkeypatch.setattr(muzero_jax.training.collect, "AutoReset", SelectReset)
    env = TimeLimit(Catch(4, 3), 3)
    config = tiny_config(replay={"prioritised": True}, target={"reanalyse_fraction": 0.5})
    agent = make_agent(config, env)
    train = make_train(env, agent, config)
    with jax.debug_key_reuse(True):
        state = jax.jit(train.init)(jax.random.key(0))
        state, _ = jax.jit(train.train_chunk)(state)
        evaluation = EvaluationConfig(num_episodes=2, final_num_episodes=2, num_envs=2)
        Evaluate(env, agent, evaluation)(state.agent, jax.random.key(1), 2)
        uniform = dataclasses.replace(agent.data, replay=tiny_config().replay)
        replay = make_loop_replay(uniform, num_envs=4)
        jax.jit(lambda ring, key: replay.sample(ring, key, 1.0, 1.0))(
            state.replay, jax.random.key(2)
        )
    assert state.agent.num_updates > 0
