"""The learner of novelty, and the environments that act for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_novelty import seen
from tiny import Described, make_batch, moment_of, muzero_agent, tiny_config, tiny_spec

from muzero_jax.agents.explorer import Explorer
from muzero_jax.agents.muzero.agent import make_muzero
from muzero_jax.config import traced_settings
from muzero_jax.core.types import Transition
from muzero_jax.envs.base import make_timestep

LENGTH = 6
EXPLORER = Explorer(jax.ShapeDtypeStruct((LENGTH,), jnp.bool_), num_actions=2, num_envs=2)
NOW = jnp.int32(1)


def corridor_windows():
    """All steps of a corridor: action 1 leads on, action 0 ends the episode.

    Windows `[N, 2, ...]` of two rows, of which the second is the state that the first leads to.
    """
    place = jnp.repeat(jnp.arange(LENGTH - 1), 2)
    action = jnp.tile(jnp.arange(2), LENGTH - 1)
    rows = jnp.stack([place, place + 1], axis=1)
    shape = rows.shape
    return Transition(
        observation=jax.nn.one_hot(rows, LENGTH, dtype=bool),
        legal_action_mask=jnp.ones((*shape, 2), bool),
        to_play=jnp.zeros(shape, jnp.int32),
        action=jnp.stack([action, jnp.zeros_like(action)], axis=1),
        reward=jnp.zeros(shape),
        discount=jnp.stack([action.astype(jnp.float32), jnp.ones(len(action))], axis=1),
        truncated=jnp.zeros(shape, bool),
        final_observation=None,
        record=(),
    )


def moment_at(places, legal=None):
    legal = jnp.ones((len(places), 2), bool) if legal is None else legal
    timestep = jax.vmap(lambda o, m: make_timestep(o, num_actions=2, legal_action_mask=m))(
        jax.nn.one_hot(jnp.array(places), LENGTH, dtype=bool), legal
    )
    return moment_of(timestep)


@functools.cache
def trained():
    """A state that knows all pairs well but those of the corridor's last place."""
    state = EXPLORER.init(jax.random.key(0))
    steps = corridor_windows()
    known = seen(steps.observation[None, :-2, 0], steps.action[None, :-2, 0])
    for _ in range(100):
        state = EXPLORER.observed(state, known, NOW)
    learn = jax.jit(EXPLORER.learned)
    for _ in range(1_500):
        state = learn(state, steps)
    return state


def test_novelty_that_lies_several_steps_ahead_is_walked_to():
    chosen = EXPLORER.act(trained(), jnp.zeros(3, jnp.int32), moment_at([0, 2, 3]))
    # The third environment acts as its agent does.
    np.testing.assert_array_equal(chosen, [1, 1, 0])


def test_what_is_new_is_tried_whatever_lies_behind_it():
    state = EXPLORER.init(jax.random.key(0))
    steps = corridor_windows()
    # At the first place action 1 was taken ten times.
    tried = seen(jnp.tile(steps.observation[:1, 0], (1, 10, 1)), jnp.ones((1, 10), jnp.int32))
    state = EXPLORER.observed(state, tried, NOW)
    assert EXPLORER.act(state, jnp.ones(1, jnp.int32), moment_at([0]))[0] == 0


def test_illegal_actions_are_not_novel():
    legal = jnp.array([[True, False], [False, True]])
    chosen = EXPLORER.act(trained(), jnp.zeros(2, jnp.int32), moment_at([0, 0], legal))
    np.testing.assert_array_equal(chosen, [0, 1])


def test_steps_that_a_time_limit_cut_teach_nothing():
    state, steps = EXPLORER.init(jax.random.key(0)), corridor_windows()
    cut = steps.replace(truncated=jnp.ones_like(steps.truncated))
    learned = EXPLORER.learned(state, cut)
    jax.tree.map(np.testing.assert_array_equal, learned.params, state.params)


@pytest.mark.parametrize("share, expected", [(0.0, 0), (0.3, 2), (1.0, 4)])
def test_a_share_of_muzeros_environments_acts_for_novelty(share, expected):
    config = tiny_config(search={"gumbel_scale": 0.0}, exploration={"novelty_share": share})
    agent = muzero_agent(config, tiny_spec())
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    assert (state.explorer is None) == (share == 0.0)
    observation = jnp.ones((4, 2))
    timestep = jax.vmap(lambda o: make_timestep(o, num_actions=3))(observation)
    moment = moment_of(timestep)
    agents_own = jax.jit(agent.act_greedily)(state, jax.random.key(0), moment).action[0]
    if share:
        others = [a for a in range(3) if a != agents_own]
        action = jnp.tile(jnp.array([agents_own, others[0]], jnp.int32), 2)[None]
        rollout = seen(observation[None], action)
        state = state.replace(explorer=agent.observe(state, rollout).explorer)
        # The only action that was never tried is the most novel one.
        novel = others[1]
    acted = jax.jit(agent.act)(state, jax.random.key(1), moment).action
    wanted = [novel] * expected if share else []
    np.testing.assert_array_equal(acted, [*wanted, *[agents_own] * (4 - expected)])


def test_muzero_learns_novelty_from_its_batches():
    config = tiny_config(exploration={"novelty_share": 0.5})
    agent = muzero_agent(config, tiny_spec())
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    assert {0, 1} <= set(agent.data.spec.observation_offsets)
    batch = make_batch(agent.data.spec, 8, 3)
    new = jax.jit(agent.learn)(state, jax.random.key(0), batch).state
    moved = jax.tree.map(
        lambda x, y: bool((x != y).any()), state.explorer.params, new.explorer.params
    )
    assert any(jax.tree.leaves(moved))


def test_muzeros_environments_stop_acting_for_novelty_where_the_settings_say():
    exploration = {"novelty_share": 1.0, "novelty_until": 0.25}
    config = tiny_config(search={"gumbel_scale": 0.0}, exploration=exploration)
    agent = muzero_agent(config, tiny_spec())
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    observation = jnp.ones((4, 2))
    moment = moment_of(jax.vmap(lambda o: make_timestep(o, num_actions=3))(observation))
    own = jax.jit(agent.act_greedily)(state, jax.random.key(0), moment).action
    state = state.replace(
        explorer=agent.observe(state, seen(observation[None], own[None])).explorer
    )
    act, batch = jax.jit(agent.act), make_batch(agent.data.spec, 8, 3)
    last = config.num_updates // 4
    for num_updates, is_young in ((last, True), (last + 1, False)):
        aged = state.replace(num_updates=jnp.int32(num_updates))
        assert ((act(aged, jax.random.key(1), moment).action != own) == is_young).all()
        new = jax.jit(agent.learn)(aged, jax.random.key(0), batch).state.explorer
        moved = jax.tree.map(lambda x, y: bool((x != y).any()), new.params, aged.explorer.params)
        assert any(jax.tree.leaves(moved)) == is_young


def test_shards_agree_on_what_is_novel():
    """Each shard sees other steps; counts and values are those of all of them."""
    config = tiny_config(exploration={"novelty_share": 0.5})
    sizes = config.sizes(lambda tree: jax.lax.pmean(tree, "shard"))
    agent = make_muzero(config.learner, Described(tiny_spec()), sizes)
    init = jax.vmap(agent.init, in_axes=(None, None), axis_name="shard", axis_size=1)
    state = jax.tree.map(lambda x: x[0], init(jax.random.key(0), traced_settings(config)))
    batches = [make_batch(agent.data.spec, 8, 3, seed=seed) for seed in (0, 1)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *batches)

    def of_shard(state, batch):
        steps = batch.transitions
        seen_here = seen(steps.observation[:, :1].swapaxes(0, 1), steps.action[:, :1].T)
        state = agent.observe(state, seen_here)
        return agent.learn(state, jax.random.key(0), batch).state.explorer

    explorer = jax.vmap(of_shard, in_axes=(None, 0), axis_name="shard")(state, batch)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[0], x[1]), explorer)
    assert explorer.visits.counts[0].sum() == 8  # Of 16 steps in two shards.
    moved = jax.tree.map(
        lambda x, y: bool((x[0] != y).any()), explorer.params, state.explorer.params
    )
    assert any(jax.tree.leaves(moved))
