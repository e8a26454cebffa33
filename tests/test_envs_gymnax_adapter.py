import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.envs.gymnax_adapter import (
    GYMNAX_NAMES,
    encode_observation,
    make_gymnax,
)
from muzero_jax.envs.registry import make_environment
from muzero_jax.envs.suites import import_suite
from muzero_jax.envs.wrappers import AutoReset

KEY = jax.random.key(0)
CONTINUOUS = {
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "PointRobot-misc",
    "Reacher-misc",
    "Swimmer-misc",
}


@pytest.fixture(scope="module")
def gymnax():
    return import_suite("gymnax", deferred=("seaborn", "matplotlib.pyplot"))


def play(env, policy, num_steps, wrap=AutoReset, rng_key=KEY):
    """Returns states and time steps of a run of the wrapped environment, over `num_steps`."""
    env = wrap(env)

    def body(carry, step_key):
        state, timestep = carry
        action_key, env_key = jax.random.split(step_key)
        action = policy(action_key, timestep.observation)
        state, timestep = env.step(env_key, state, action)
        return (state, timestep), (state, timestep)

    @jax.jit
    def run(rng_key):
        reset_key, play_key = jax.random.split(rng_key)
        return jax.lax.scan(body, env.reset(reset_key), jax.random.split(play_key, num_steps))[1]

    return jax.device_get(run(rng_key))


def balance(rng_key, observation):
    """Keeps the pole up for far longer than 500 steps."""
    del rng_key
    weights = jnp.array([0.1, 0.3, 1.0, 0.5])
    return (observation @ weights > 0.0).astype(jnp.int32)


def always(action):
    return lambda rng_key, observation: jnp.asarray(action, jnp.int32)


def test_the_known_names_are_the_registered_ones_with_discrete_actions(gymnax):
    assert set(GYMNAX_NAMES) == set(gymnax.registered_envs) - CONTINUOUS


def test_cartpole_is_truncated_at_500_steps_and_the_final_observation_is_kept():
    states, timesteps = play(make_gymnax("CartPole-v1"), balance, 502)
    expected = np.zeros(502, bool)
    expected[499] = True
    np.testing.assert_array_equal(timesteps.truncated, expected)
    np.testing.assert_array_equal(timesteps.discount, np.ones(502))
    np.testing.assert_array_equal(timesteps.reward, np.ones((502, 1)))
    final, fresh = states.outcome.observation[499], timesteps.observation[499]
    # A fresh CartPole is within 0.05 of the origin. The final state is where the cart got to: one
    # Euler step (0.02 s) on from the state before.
    before = timesteps.observation[498]
    assert np.abs(fresh).max() <= 0.05
    np.testing.assert_allclose(final[[0, 2]], before[[0, 2]] + 0.02 * before[[1, 3]], rtol=1e-5)
    assert not np.allclose(final, fresh)


def test_cartpole_terminates_when_the_pole_falls():
    states, timesteps = play(make_gymnax("CartPole-v1"), always(1), 20)
    (ends,) = np.nonzero(timesteps.discount == 0.0)
    assert 7 <= ends[0] <= 11  # Always pushing right drops the pole after 8 to 12 steps.
    assert not timesteps.truncated.any()
    # 12 degrees.
    assert np.abs(states.outcome.observation[ends[0], 2]) > 12 * 2 * np.pi / 360
    assert np.abs(states.outcome.observation[ends[0] - 1, 2]) <= 12 * 2 * np.pi / 360


@pytest.mark.parametrize(
    "name",
    [
        "CartPole-v1",
        "MountainCar-v0",
        "Catch-bsuite",
        "DeepSea-bsuite",
        "DiscountingChain-bsuite",
        "Breakout-MinAtar",
        "Freeway-MinAtar",
        "FourRooms-misc",
        "FrozenLake-misc",
        "Pong-misc",
    ],
)
def test_the_suite_has_no_time_limit_of_its_own(gymnax, name):
    """A raw step from far beyond the horizon does not terminate, so that `TimeLimit` decides."""
    suite_env, params = gymnax.make(name)
    env = make_gymnax(name)
    inner = getattr(env, "env", env)

    def step_late(rng_key):
        state, _ = inner.reset(rng_key)
        late = jnp.asarray(2 * params.max_steps_in_episode, state.time.dtype)
        action = jnp.zeros((), jnp.int32)
        with jax.numpy_rank_promotion("allow"):
            return suite_env.step_env(rng_key, state.replace(time=late), action, params)[3]

    assert not jax.jit(step_late)(KEY)


@pytest.mark.parametrize(
    ("name", "bound", "can_truncate"),
    [
        ("CartPole-v1", 500, True),
        ("MountainCar-v0", 200, True),
        ("Breakout-MinAtar", 1000, True),
        ("Freeway-MinAtar", 2500, True),
        ("Catch-bsuite", 9, False),
        ("DeepSea-bsuite", 8, False),
        ("MemoryChain-bsuite", 6, False),
        ("UmbrellaChain-bsuite", 10, False),
        ("SimpleBandit-bsuite", 1, False),
        ("DiscountingChain-bsuite", 100, False),
    ],
)
def test_horizons(name, bound, can_truncate):
    spec = make_gymnax(name).spec
    assert (spec.max_episode_steps, spec.can_truncate) == (bound, can_truncate)


@pytest.mark.parametrize(
    ("name", "options", "length"),
    [
        ("Catch-bsuite", {"rows": 6}, 5),
        ("DeepSea-bsuite", {"size": 5}, 5),
        ("MemoryChain-bsuite", {"memory_length": 3}, 4),
        ("UmbrellaChain-bsuite", {"chain_length": 7}, 7),
    ],
)
def test_natural_lengths_are_exact(name, options, length):
    env = make_gymnax(name, **options)
    assert env.spec.max_episode_steps == length
    _, timesteps = play(env, always(0), length, wrap=lambda env: env)
    np.testing.assert_array_equal(np.nonzero(timesteps.discount == 0.0)[0], [length - 1])


def test_a_clocked_task_terminates_and_pays_at_its_horizon():
    # Action 4 of the chain pays 1 after exactly 100 steps; bsuite ends the episode there.
    _, timesteps = play(make_gymnax("DiscountingChain-bsuite"), always(4), 100)
    np.testing.assert_array_equal(np.nonzero(timesteps.reward[:, 0])[0], [99])
    np.testing.assert_array_equal(np.nonzero(timesteps.discount == 0.0)[0], [99])
    assert not timesteps.truncated.any()


@pytest.mark.parametrize(
    "name", ["Breakout-MinAtar", "Catch-bsuite", "DeepSea-bsuite", "Pong-misc"]
)
def test_grids_stored_as_bool_lose_nothing(gymnax, name):
    """What is cast to bool was 0 or 1 before; one game of MinAtar stands for all of them."""
    suite_env, params = gymnax.make(name)
    assert make_gymnax(name).spec.observation_dtype == "bool"

    def body(state, rng_key):
        action_key, env_key = jax.random.split(rng_key)
        action = suite_env.action_space(params).sample(action_key)
        observation, next_state, *_ = suite_env.step_env(env_key, state, action, params)
        next_state = jax.tree.map(lambda new, old: new.astype(old.dtype), next_state, state)
        return next_state, jnp.all((observation == 0) | (observation == 1))

    @jax.jit
    def run(rng_key):
        with jax.numpy_rank_promotion("allow"):
            _, state = suite_env.reset_env(rng_key, params)
            state = jax.tree.map(jnp.asarray, state)
            return jax.lax.scan(body, state, jax.random.split(rng_key, 100))[1]

    assert run(KEY).all()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("CartPole-v1", {"gravity": 20}, {"gravity": 20.0}),
        ("CartPole-v1", {"max_steps_in_episode": 1e3}, {"max_steps_in_episode": 1000}),
        ("CartPole-v1", {"masscart": 2.0}, {"masscart": 2.0, "total_mass": 2.1}),
        ("CartPole-v1", {"masscart": 2.0, "total_mass": 9.0}, {"total_mass": 9.0}),
        ("DeepSea-bsuite", {"size": 5, "deterministic": False}, {"deterministic": False}),
        ("Asterix-MinAtar", {"ramp_interval": 7}, {"ramp_interval": 7}),
    ],
)
def test_fields_of_env_params_are_options_and_keep_their_type(name, options, expected):
    env = make_gymnax(name, **options)
    params = getattr(env, "env", env).params
    for field, value in expected.items():
        found = getattr(params, field)
        assert (found, type(found)) == (pytest.approx(value), type(value))


def test_gravity_changes_the_dynamics():
    (_, slow), (_, fast) = (
        play(make_gymnax("CartPole-v1", gravity=gravity), always(0), 6, wrap=lambda env: env)
        for gravity in (1, 200)
    )
    assert not np.allclose(slow.observation[-1], fast.observation[-1])


@pytest.mark.parametrize(
    ("name", "options", "can_truncate", "bound"),
    [
        ("CartPole-v1", {"max_steps": 7}, True, 7),
        ("CartPole-v1", {"max_steps_in_episode": 7}, True, 7),
        ("DeepSea-bsuite", {"max_steps_in_episode": 3}, True, 3),  # It would end after 8 steps.
        ("DeepSea-bsuite", {"max_steps_in_episode": 30}, False, 8),
        ("DiscountingChain-bsuite", {"max_steps_in_episode": 7}, False, 7),  # It shows the clock.
    ],
)
def test_the_horizon_is_an_option(name, options, can_truncate, bound):
    env = make_gymnax(name, **options)
    assert (env.spec.can_truncate, env.spec.max_episode_steps) == (can_truncate, bound)
    if can_truncate:
        assert env.max_steps == bound and not env.env.spec.can_truncate


def test_a_clock_that_is_part_of_the_task_ends_it_at_another_horizon():
    # The horizon of this task is a float in gymnax.
    env = make_gymnax("BernoulliBandit-misc", max_steps_in_episode=7)
    assert (env.spec.can_truncate, env.spec.max_episode_steps) == (False, 7)
    _, timesteps = play(env, always(0), 7, wrap=lambda env: env)
    np.testing.assert_array_equal(np.nonzero(timesteps.last)[0], [6])


def test_encode_observation():
    one_hot = encode_observation(jnp.asarray(2), dtype="bool", num_categories=4)
    np.testing.assert_array_equal(one_hot, [False, False, True, False])
    assert encode_observation(jnp.ones((3, 2)), dtype="bool").shape == (3, 2, 1)
    assert encode_observation(jnp.ones((3, 2, 5)), dtype="bool").shape == (3, 2, 5)
    assert encode_observation(jnp.asarray(1.5), dtype="float32").shape == (1,)
    assert encode_observation(jnp.arange(3), dtype="float32").dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Pendulum-v1", {}, "continuous actions"),
        ("CartPole-v7", {}, "Unknown environment 'gymnax:CartPole-v7'"),
        ("CartPole-v1:name=x", {}, "there is no option 'name'"),
        (
            "DeepSea-bsuite",
            {"gravitas": 3},
            r"no option 'gravitas'; its constructor takes size, its EnvParams have "
            r"max_steps_in_episode, deterministic, .*, and max_steps sets the time limit\.$",
        ),
        ("CartPole-v1", {"gravity": "abc"}, "gravity must be a number, found 'abc'"),
        ("CartPole-v1", {"gravity": True}, "found True"),
        ("CartPole-v1", {"gravity": float("nan")}, "found nan"),
        ("DeepSea-bsuite", {"size": 2.5}, "size must be an integer, found 2.5"),
        ("DeepSea-bsuite", {"deterministic": 1}, "true or false"),
        ("Acrobot-v1", {"available_torque": 3}, "takes no number"),
        ("FrozenLake-misc", {"desc": "SF"}, "desc takes no number"),
        ("FrozenLake-misc", {"map_name": "9x9"}, "map_name must be"),
        ("CartPole-v1", {"max_steps": 0}, "at least 1, found 0"),
        ("Catch-bsuite", {"rows": 1}, "max_episode_steps must be at least 1, found 0"),
        ("CartPole-v1", {"max_steps_in_episode": 0}, "at least 1, found 0"),
        ("MetaMaze-misc", {"max_steps_in_episode": 0}, "at least 1, found 0"),
        ("BernoulliBandit-misc", {"max_steps_in_episode": 2.5}, "must be an integer, found 2.5"),
        (
            "CartPole-v1",
            {"max_steps_in_episode": 3, "max_steps": 3},
            "give max_steps or max_steps_in_episode, not both",
        ),
    ],
)
def test_errors(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_environment(f"gymnax:{name}", **options)
