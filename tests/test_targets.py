import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from tiny import make_batch

from muzero_jax.agents.muzero.targets import make_targets, make_window_spec
from muzero_jax.config import TargetConfig

FINAL = 100.0


def observed(observation, legal_action_mask):
    """The value of a state is 10 x its row in the window; that of a final observation is 100."""
    return observation[:, 0]


def searched(observation, legal_action_mask):
    """A search that finds 1000 more than the network, and the last legal action."""
    last = legal_action_mask.shape[-1] - 1 - jnp.argmax(legal_action_mask[:, ::-1], axis=-1)
    return jax.nn.one_hot(last, legal_action_mask.shape[-1]), observation[:, 0] + 1000.0


def no_search(observation, legal_action_mask):
    raise AssertionError("nothing is reanalysed here")


def targets_of(
    config, batch_size=1, per_step=0.5, search_fn=no_search, value_fn=observed, **fields
):
    """Targets of a batch of `make_batch` windows with the given fields."""
    window = make_window_spec(config, all_unrolled=False)
    fields = {name: np.asarray(x) for name, x in fields.items()}
    fields.setdefault("final_observation", np.full((batch_size, 2), FINAL))
    batch = make_batch(window, batch_size, 3, **fields)
    make = compiled(config, value_fn, search_fn)
    return batch, make(batch.transitions, discount=jnp.float32(per_step))


@functools.cache
def compiled(config, value_fn, search_fn):
    """The targets of a config, whose program all tests with it share."""
    window = make_window_spec(config, all_unrolled=False)
    return jax.jit(
        functools.partial(make_targets, config, window, value_fn=value_fn, search_fn=search_fn)
    )


def config(**fields):
    return TargetConfig(**({"num_unroll_steps": 2, "td_steps": 2, "bootstrap": "network"} | fields))


def test_window_spec_by_hand():
    k2n3 = {"num_unroll_steps": 2, "td_steps": 3}
    spec = functools.partial(make_window_spec, all_unrolled=False)
    assert spec(TargetConfig(**k2n3, bootstrap="search")).observation_offsets == (0,)
    assert spec(TargetConfig(**k2n3, bootstrap="network")).observation_offsets == (0, 3, 4, 5)
    with_lambda = TargetConfig(**k2n3, bootstrap="target_network", td_lambda=0.9)
    assert spec(with_lambda).observation_offsets == (0, 1, 2, 3, 4, 5)
    reanalysed = TargetConfig(**k2n3, bootstrap="search", reanalyse_fraction=0.5)
    assert spec(reanalysed).observation_offsets == (0, 1, 2, 3, 4, 5)
    consistent = make_window_spec(TargetConfig(**k2n3, bootstrap="search"), all_unrolled=True)
    assert consistent.observation_offsets == (0, 1, 2)
    assert consistent.length == 6


REWARD = [[1.0, 2.0, 3.0, 4.0, 99.0]]


def test_targets_by_hand_while_the_episode_lives():
    _, targets = targets_of(config(), reward=REWARD)
    # 1 + 2/2 + 20/4, 2 + 3/2 + 30/4, 3 + 4/2 + 40/4: row r is worth 10 r.
    np.testing.assert_allclose(targets.value, [[7.0, 11.0, 15.0]])
    np.testing.assert_allclose(targets.reward, [[1.0, 2.0]])
    for mask in (targets.policy_mask, targets.value_mask, targets.reward_mask):
        assert mask.all()


def test_step_k_of_the_unroll_has_the_action_and_the_reward_of_transition_k():
    """Action and reward say their row; the policy of a state is that of the search that acted."""
    action = np.array([[2, 0, 1, 2, 0]], np.int32)
    reward = 1.0 + action + 10.0 * np.arange(5)
    batch, targets = targets_of(config(), reward=reward, action=action)
    np.testing.assert_array_equal(targets.action, [[2, 0]])
    np.testing.assert_allclose(targets.reward, [[3.0, 11.0]])
    np.testing.assert_array_equal(targets.policy, batch.transitions.record.action_weights[:, :3])


def test_targets_of_a_window_that_starts_at_a_terminal_transition():
    discount = [[0.0, 1.0, 1.0, 1.0, 1.0]]
    _, targets = targets_of(config(), reward=REWARD, discount=discount)
    # The start keeps its reward and its value; past the end both are 0 and trained.
    np.testing.assert_allclose(targets.value, [[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(targets.reward, [[1.0, 0.0]])
    np.testing.assert_array_equal(targets.policy_mask, [[True, False, False]])
    assert targets.value_mask.all() and targets.reward_mask.all()


def test_targets_of_a_window_that_terminates_inside():
    discount = [[1.0, 0.0, 1.0, 0.0, 1.0]]
    _, targets = targets_of(config(), reward=REWARD, discount=discount)
    np.testing.assert_allclose(targets.value, [[2.0, 2.0, 0.0]])
    np.testing.assert_allclose(targets.reward, [[1.0, 2.0]])
    np.testing.assert_array_equal(targets.policy_mask, [[True, True, False]])
    assert targets.value_mask.all() and targets.reward_mask.all()


@pytest.mark.parametrize("bootstrap", ["search", "network", "target_network"])
def test_targets_bootstrap_a_truncation_from_the_final_observation(bootstrap):
    truncated = [[False, True, False, True, False]]
    _, targets = targets_of(config(bootstrap=bootstrap), reward=REWARD, truncated=truncated)
    # 1 + (2 + 100/2)/2, 2 + 100/2; after a time limit nothing is known and all is masked.
    np.testing.assert_allclose(targets.value, [[27.0, 52.0, 0.0]])
    np.testing.assert_array_equal(targets.policy_mask, [[True, True, False]])
    np.testing.assert_array_equal(targets.value_mask, [[True, True, False]])
    np.testing.assert_array_equal(targets.reward_mask, [[True, True]])
    _, at_once = targets_of(
        config(bootstrap=bootstrap), reward=REWARD, truncated=[[True] + [False] * 4]
    )
    np.testing.assert_allclose(at_once.value, [[51.0, 0.0, 0.0]])
    np.testing.assert_array_equal(at_once.reward_mask, [[True, False]])


def test_targets_use_the_final_observation_of_the_first_end_only():
    """A second truncation in the window belongs to another episode."""
    truncated = [[False, False, False, True, False]]
    discount = [[1.0, 1.0, 0.0, 1.0, 1.0]]
    _, targets = targets_of(config(), reward=REWARD, truncated=truncated, discount=discount)
    # 1 + 2/2 + 20/4, 2 + 3/2, 3
    np.testing.assert_allclose(targets.value, [[7.0, 3.5, 3.0]])


def test_targets_take_stored_search_values_where_asked():
    batch, targets = targets_of(config(bootstrap="search"), reward=REWARD)
    stored = batch.transitions.record.search_value[0]
    np.testing.assert_allclose(targets.value[0, 0], 2.0 + stored[2] / 4, rtol=1e-6)
    np.testing.assert_allclose(targets.value[0, 2], 5.0 + stored[4] / 4, rtol=1e-6)


def test_targets_of_two_players_alternate_sign():
    _, targets = targets_of(
        config(td_steps=3), per_step=-1.0, reward=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    )
    # r0 - r1 + r2 - v3; the opponent's reward and the opponent's value count against the mover.
    np.testing.assert_allclose(targets.value, [[1 - 2 + 3 - 30, 2 - 3 + 4 - 40, 3 - 4 + 5 - 50]])


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("bootstrap", ["search", "network"])
def test_reanalyse_replaces_the_first_share_of_the_batch(bootstrap, truncates):
    settings = config(bootstrap=bootstrap, reanalyse_fraction=0.5, td_lambda=0.5)
    legal = np.ones((4, 5, 3), bool)
    legal[:, 1] = [True, True, False]  # row 1 of each window: the last legal action is 1
    reward = np.tile(np.array(REWARD), (4, 1))
    truncated = np.zeros((4, 5), bool)
    truncated[:, 3] = truncates
    final = np.full((4, 2), FINAL) if truncates else None
    fields = {"reward": reward, "legal_action_mask": legal, "truncated": truncated}
    window = make_window_spec(settings, all_unrolled=False)
    batch = make_batch(window, 4, 3, **fields, final_observation=final)
    make = compiled(settings, observed, searched)
    targets = make(batch.transitions, discount=jnp.float32(0.5))
    np.testing.assert_array_equal(targets.policy[0], np.eye(3)[[2, 1, 2]])
    np.testing.assert_array_equal(targets.policy[1], targets.policy[0])
    np.testing.assert_allclose(targets.policy[2:], batch.transitions.record.action_weights[2:, :3])
    # Row r is worth 10 r + 1000 after a search: G_1 = 2 + 1020/2, G_0 = 1 + (1010 + G_1)/4.
    np.testing.assert_allclose(targets.value[:2, 0], 1 + (1010 + 2 + 1020 / 2) / 4, rtol=1e-6)
    # The last start: 3 + (v_3 / 2 + G / 2) / 2 with G = 4 + v_4 / 2, or with the final value.
    last = 4 + (1100 if truncates else 1040) / 2
    np.testing.assert_allclose(targets.value[:2, 2], 3 + (1030 + last) / 4, rtol=1e-6)
    values = batch.transitions.record.search_value if bootstrap == "search" else 10.0 * np.arange(5)
    values = np.broadcast_to(values, (4, 5))[2:]
    last = 4 + (np.full(2, FINAL) if truncates else values[:, 4]) / 2
    np.testing.assert_allclose(targets.value[2:, 2], 3 + (values[:, 3] + last) / 4, rtol=1e-5)


def test_reanalyse_searches_the_windows_that_it_replaces():
    """Of four windows, whose rows say which window they are of, the first two are reanalysed."""
    settings = config(num_unroll_steps=1, td_steps=1, reanalyse_fraction=0.5)
    window = make_window_spec(settings, all_unrolled=False)
    number = 100.0 * np.arange(4)
    row_value = number[:, None] + 10.0 * np.arange(3)
    final = number + 77.0
    # The only legal action of row r of window b is (b + r) % 3.
    action = np.add.outer(np.arange(4), np.arange(3)) % 3
    truncated = np.zeros((4, 3), bool)
    truncated[[1, 3], 1] = True
    fields = {
        "observation": np.stack([row_value, row_value], axis=-1),
        "final_observation": np.stack([final, final], axis=-1),
        "legal_action_mask": np.eye(3, dtype=bool)[action],
        "reward": np.ones((4, 3)),
        "truncated": truncated,
    }
    batch = make_batch(window, 4, 3, **fields)
    make = compiled(settings, observed, searched)
    targets = make(batch.transitions, discount=jnp.float32(0.5))
    # A search finds 1000 more than the network, in the rows and in the final observations.
    found = np.array([1000.0, 1000.0, 0.0, 0.0])
    after = np.where(truncated[:, 1], final, row_value[:, 2])
    np.testing.assert_allclose(targets.value[:, 0], 1 + (row_value[:, 1] + found) / 2)
    np.testing.assert_allclose(targets.value[:, 1], 1 + (after + found) / 2)
    np.testing.assert_array_equal(targets.policy[:2], np.eye(3)[action[:2, :2]])
    np.testing.assert_array_equal(
        targets.policy[2:], batch.transitions.record.action_weights[2:, :2]
    )


def test_reanalyse_searches_once_with_the_right_masks():
    """Every state is searched under its own mask; final observations, under none."""
    seen = []

    def search_fn(observation, legal):
        seen.append((observation.shape, legal.shape))
        return searched(observation, legal)

    targets_of(config(reanalyse_fraction=0.3), batch_size=8, search_fn=search_fn)
    # ceil(0.3 x 8) = 3 windows of 5 observed rows, and their final observations.
    assert seen == [((18, 2), (18, 3))]


def test_value_fn_reads_only_rows_that_are_needed():
    shapes = []

    def value_fn(observation, legal_action_mask):
        shapes.append(observation.shape)
        return observation[:, 0]

    window = make_window_spec(config(), all_unrolled=True)
    batch = make_batch(window, 4, 3, reward=np.tile(np.array(REWARD), (4, 1)))
    make = functools.partial(make_targets, config(), window)
    make = jax.jit(functools.partial(make, value_fn=value_fn, search_fn=no_search))
    targets = make(batch.transitions, discount=jnp.float32(0.5))
    assert shapes == [(4 * 3, 2)]
    np.testing.assert_allclose(targets.value[3], [7.0, 11.0, 15.0])


def noise(observation, legal_action_mask):
    """The value of a state is drawn at random."""
    return observation[:, 1]


def random_windows(rng, batch_size, length):
    """Windows in which a third of the steps end episodes, with some actions that are illegal."""
    kind = rng.choice(
        ["on", "terminated", "truncated"], p=[0.7, 0.15, 0.15], size=(batch_size, length)
    )
    return {
        "reward": rng.normal(size=kind.shape),
        "discount": np.where(kind == "terminated", 0.0, 1.0),
        "truncated": kind == "truncated",
        "final_observation": rng.normal(size=(batch_size, 2)),
        "legal_action_mask": rng.random((batch_size, length, 3)) < 0.7,
    }


@pytest.mark.parametrize("discount", [0.9, -1.0])
@pytest.mark.parametrize(
    "num_unroll_steps,td_steps,td_lambda",
    [(0, 1, 1.0), (0, 5, 1.0), (3, 1, 1.0), (5, 10, 1.0), (2, 4, 0.7), (5, 3, 0.95), (4, 4, 0.0)],
)
def test_targets_match_the_plain_python_reference(num_unroll_steps, td_steps, td_lambda, discount):
    settings = config(num_unroll_steps=num_unroll_steps, td_steps=td_steps, td_lambda=td_lambda)
    window = make_window_spec(settings, all_unrolled=False)
    rng = np.random.default_rng(num_unroll_steps + 10 * td_steps)
    fields = random_windows(rng, 40, window.length)
    batch, targets = targets_of(settings, 40, discount, value_fn=noise, **fields)
    t = jax.device_get(batch.transitions)
    # Only the rows that are read were given; the others must not matter.
    row_value = np.full((40, window.length), np.nan)
    row_value[:, list(window.observation_offsets)] = t.observation[..., 1]
    for b in range(40):
        rows = [
            {
                "reward": float(t.reward[b, i]),
                "terminated": t.discount[b, i] == 0.0,
                "truncated": bool(t.truncated[b, i]),
                "policy": t.record.action_weights[b, i],
                "value": float(row_value[b, i]) if td_lambda < 1 or i >= td_steps else 1e9,
            }
            for i in range(window.length)
        ]
        expected = reference.make_targets(
            rows, num_unroll_steps, td_steps, td_lambda, discount, float(t.final_observation[b, 1])
        )
        np.testing.assert_array_equal(targets.action[b], t.action[b, :num_unroll_steps])
        for k, row in enumerate(expected):
            for name in ("policy_mask", "value_mask"):
                assert getattr(targets, name)[b, k] == row[name], (name, b, k)
            if row["value_mask"]:
                np.testing.assert_allclose(targets.value[b, k], row["value"], rtol=1e-4, atol=1e-5)
            if row["policy_mask"]:
                np.testing.assert_allclose(targets.policy[b, k], row["policy"], rtol=1e-6)
                np.testing.assert_array_equal(
                    targets.legal_action_mask[b, k], t.legal_action_mask[b, k]
                )
            if k > 0:
                assert targets.reward_mask[b, k - 1] == row["reward_mask"]
                np.testing.assert_allclose(targets.reward[b, k - 1], row["reward"], rtol=1e-6)


def test_targets_with_n_past_the_episode_equal_monte_carlo():
    discount = np.ones((1, 9))
    discount[0, 5] = 0.0
    _, targets = targets_of(
        config(td_steps=6), reward=np.arange(1.0, 10.0)[None], discount=discount
    )
    returns = [sum(0.5 ** (t - k) * (t + 1) for t in range(k, 6)) for k in range(3)]
    np.testing.assert_allclose(targets.value[0], returns, rtol=1e-6)


@pytest.mark.parametrize("td_lambda", [1.0, 0.5])
@pytest.mark.parametrize("bootstrap", ["search", "network"])
def test_with_no_steps_the_target_is_the_searched_value_of_the_state(bootstrap, td_lambda):
    """Neither rewards nor what the action led to play a part, but for the end of the episode."""
    fraction = 0.0 if bootstrap == "search" else 1.0
    settings = config(
        td_steps=0, bootstrap=bootstrap, reanalyse_fraction=fraction, td_lambda=td_lambda
    )
    discount = [[1.0, 0.0, 1.0]]
    batch, targets = targets_of(settings, search_fn=searched, discount=discount)
    stored = np.asarray(batch.transitions.record.search_value)[0]
    expected = stored if bootstrap == "search" else [1000.0, 1010.0, 1020.0]
    np.testing.assert_allclose(targets.value[0], [*expected[:2], 0.0], rtol=1e-6)
