"""Evaluation counts complete greedy episodes, whatever their lengths."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from tiny import scripted_agent

from muzero_jax.agents.base import ActOutput
from muzero_jax.config import EvaluationConfig
from muzero_jax.envs.base import EnvironmentSpec, make_timestep
from muzero_jax.envs.tic_tac_toe import TicTacToe
from muzero_jax.envs.wrappers import TimeLimit
from muzero_jax.training.evaluation import Evaluate


class CoinState(struct.PyTreeNode):
    length: jax.Array
    step: jax.Array


@dataclasses.dataclass(frozen=True)
class Coin:
    """Episodes of `short` or `long` steps with equal chance; a step pays `action`."""

    short: int = 1
    long: int = 9
    spec = EnvironmentSpec("coin", (1,), "float32", num_actions=2)

    def _timestep(self, state, **fields):
        return make_timestep(state.step[None].astype(jnp.float32), num_actions=2, **fields)

    def reset(self, rng_key):
        length = jnp.where(jax.random.bernoulli(rng_key), self.long, self.short)
        state = CoinState(length.astype(jnp.int32), jnp.zeros((), jnp.int32))
        return state, self._timestep(state)

    def step(self, rng_key, state, action):
        state = state.replace(step=state.step + 1)
        return state, self._timestep(state, reward=action, terminated=state.step >= state.length)


ALWAYS_ONE = scripted_agent(lambda key, timestep, explore: jnp.ones(timestep.to_play.shape))


def config(**fields):
    defaults = {"num_episodes": 10, "final_num_episodes": 25, "num_envs": 4}
    return EvaluationConfig(**(defaults | fields))


def test_returns_and_lengths_are_of_complete_episodes():
    result = Evaluate(Coin(), ALWAYS_ONE, config())({}, jax.random.key(0), 25)
    assert result.scores.shape == result.lengths.shape == (25,)
    assert set(result.lengths) == {1, 9}
    np.testing.assert_array_equal(result.scores, result.lengths)


def test_short_episodes_are_not_favoured():
    """Taking the first episodes to finish would report nearly only short ones."""
    evaluate = Evaluate(Coin(1, 50), ALWAYS_ONE, config(final_num_episodes=400, num_envs=40))
    lengths = evaluate({}, jax.random.key(1), 400).lengths
    assert 0.38 < (lengths == 50).mean() < 0.62


@pytest.mark.parametrize("num_episodes", [1, 3, 4, 5, 10, 25])
def test_any_number_of_episodes_is_counted_exactly(num_episodes):
    evaluate = Evaluate(Coin(), ALWAYS_ONE, config())
    assert evaluate({}, jax.random.key(num_episodes), num_episodes).scores.shape == (num_episodes,)


@pytest.mark.parametrize("num_episodes", [0, 29])
def test_more_episodes_than_configured_are_refused(num_episodes):
    with pytest.raises(ValueError, match="between 1 and 28"):
        Evaluate(Coin(), ALWAYS_ONE, config())({}, jax.random.key(0), num_episodes)


def test_an_episode_that_will_not_end_is_cut_and_counted():
    evaluate = Evaluate(Coin(5, 5), ALWAYS_ONE, config(max_episode_steps=4))
    result = evaluate({}, jax.random.key(0), 7)
    np.testing.assert_array_equal(result.lengths, 4)
    np.testing.assert_array_equal(result.scores, 4.0)
    assert result.num_cut == 7
    enough = Evaluate(Coin(5, 5), ALWAYS_ONE, config(max_episode_steps=5))({}, jax.random.key(0), 3)
    np.testing.assert_array_equal(enough.lengths, 5)
    assert enough.num_cut == 0


def test_cut_episodes_end_alone_and_favour_nobody():
    """Each slot plays its quota: long episodes are cut, the short ones beside them go on."""
    settings = config(final_num_episodes=400, num_envs=40, max_episode_steps=9)
    result = Evaluate(Coin(3, 50), ALWAYS_ONE, settings)({}, jax.random.key(1), 400)
    assert set(result.lengths) == {3, 9}
    assert result.num_cut == (result.lengths == 9).sum()
    assert 0.38 < (result.lengths == 9).mean() < 0.62
    np.testing.assert_array_equal(result.scores, result.lengths)


def test_a_limit_that_cuts_nothing_changes_nothing():
    bounded = Evaluate(Coin(1, 9), ALWAYS_ONE, config(max_episode_steps=9))
    free = Evaluate(Coin(1, 9), ALWAYS_ONE, config(max_episode_steps=10_000))
    one, other = (evaluate({}, jax.random.key(4), 25).lengths for evaluate in (bounded, free))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("limit", [3, 4])
def test_a_time_limit_of_the_environment_is_no_cut(limit):
    env = TimeLimit(Coin(9, 9), max_steps=3)
    result = Evaluate(env, ALWAYS_ONE, config(max_episode_steps=limit))({}, jax.random.key(0), 8)
    assert (result.num_cut, set(result.lengths)) == (0, {3})


def test_a_truncated_episode_is_complete():
    env = TimeLimit(Coin(9, 9), max_steps=3)
    result = Evaluate(env, ALWAYS_ONE, config())({}, jax.random.key(0), 8)
    np.testing.assert_array_equal(result.scores, 3.0)


@pytest.mark.parametrize("env", [Coin(), TicTacToe()], ids=["one_player", "two_players"])
def test_agent_is_asked_to_be_greedy(env):
    explored = []

    def action_fn(rng_key, timestep, explore):
        explored.append(explore)
        return jnp.argmax(timestep.legal_action_mask, axis=-1)

    Evaluate(env, scripted_agent(action_fn), config())({}, jax.random.key(0), 2)
    assert explored and not any(explored)


def test_same_key_same_episodes():
    evaluate = Evaluate(Coin(), ALWAYS_ONE, config())
    one, again, other = (evaluate({}, jax.random.key(seed), 25).lengths for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def lowest_legal(rng_key, timestep, explore):
    return jnp.argmax(timestep.legal_action_mask, axis=-1)


def lose_at_once(rng_key, timestep, explore):
    """Claims a taken cell as soon as there is one, which loses the game."""
    return jnp.argmin(timestep.legal_action_mask, axis=-1)


def test_two_players_score_is_the_agents_own_from_both_seats():
    """An agent that forfeits loses every game, in the first seat as in the second."""
    agent = scripted_agent(lose_at_once, num_actions=9)
    settings = config(num_episodes=8, final_num_episodes=8, num_envs=4)
    result = Evaluate(TicTacToe(), agent, settings)({}, jax.random.key(0), 8)
    np.testing.assert_array_equal(result.scores, -1.0)
    # Where the agent moves first: cell 0, a reply, then the forfeit; else it forfeits at once.
    # Slots 0 and 2 begin in the first seat, 1 and 3 in the second, and then all change.
    np.testing.assert_array_equal(sorted(result.lengths), [2, 2, 2, 2, 3, 3, 3, 3])
    one_slot = config(num_episodes=6, final_num_episodes=6, num_envs=1)
    result = Evaluate(TicTacToe(), agent, one_slot)({}, jax.random.key(0), 6)
    np.testing.assert_array_equal(result.lengths, [3, 2, 3, 2, 3, 2])


def test_two_players_opponent_plays_legal_moves_at_random():
    agent = scripted_agent(lowest_legal, num_actions=9)
    settings = config(num_episodes=200, final_num_episodes=200, num_envs=50)
    result = Evaluate(TicTacToe(), agent, settings)({}, jax.random.key(0), 200)
    assert set(result.scores) == {-1.0, 0.0, 1.0}
    assert result.lengths.min() >= 5  # an illegal move of the opponent would end a game sooner
    assert result.scores.mean() > 0.1


@dataclasses.dataclass(frozen=True)
class Watcher:
    """An observer that answers with a random number and the agent's own number."""

    name: str

    def answers(self, agent_state, rng_key):
        return jax.random.uniform(rng_key), agent_state["number"]

    def metrics(self, answers):
        assert not any(isinstance(answer, jax.Array) for answer in answers), "the host is asked"
        return {f"{self.name}/{k}": float(x) for k, x in zip("xn", answers, strict=True)}


def test_observers_are_asked_of_every_agent_and_change_no_episode():
    keys = [jax.random.key(seed) for seed in (0, 1)]
    alone = Evaluate(Coin(), ALWAYS_ONE, config())({"number": jnp.float32(7.0)}, keys[0], 25)
    assert alone.observed == {}
    observers = [Watcher("first"), Watcher("second")]
    together = Evaluate(Coin(), ALWAYS_ONE, config(), width=2, observers=observers)
    one, two = together.each({"number": jnp.array([7.0, 8.0])}, keys, 25)
    np.testing.assert_array_equal(one.scores, alone.scores)
    assert (one.observed["first/n"], two.observed["second/n"]) == (7.0, 8.0)
    drawn = {result.observed[name] for result in (one, two) for name in ("first/x", "second/x")}
    assert len(drawn) == 4


def test_another_way_of_acting_can_be_evaluated():
    def act(state, rng_key, moment):
        return ActOutput(action=jnp.zeros(moment.timestep.to_play.shape, jnp.int32))

    result = Evaluate(Coin(), ALWAYS_ONE, config(), act=act)({}, jax.random.key(0), 10)
    np.testing.assert_array_equal(result.scores, 0.0)
