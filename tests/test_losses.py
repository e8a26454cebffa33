import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from muzero_jax.agents.muzero.losses import legal_entropy, muzero_loss
from muzero_jax.agents.muzero.targets import Targets
from muzero_jax.config import LossConfig, NetworkConfig
from muzero_jax.maths.value_support import scalar_to_support
from muzero_jax.networks.factory import make_model
from muzero_jax.networks.model import MuZeroModel

NUM_ACTIONS, BATCH = 3, 6
SUPPORT_SIZE, SUPPORT_SPACING = 4, 0.8
WEIGHTS = {"policy": 1.0, "value": 0.25, "reward": 0.5}
ENTROPY_WEIGHT = 0.1
H = {f"loss.{name}_weight": weight for name, weight in WEIGHTS.items()}
UNROLLING = {"loss.unrolled_weight": 1.0, "loss.gradient_scale": 0.5}
H |= {"loss.entropy_weight": ENTROPY_WEIGHT, **UNROLLING}
CONSISTENT = LossConfig(consistency_weight=1.0)
NO_ENTROPY = {**H, "loss.entropy_weight": 0.0}


@functools.cache
def model_and_params(use_projection=False):
    config = NetworkConfig(
        kind="mlp",
        embedding_size=6,
        hidden_sizes=(8,),
        support_size=SUPPORT_SIZE,
        support_spacing=SUPPORT_SPACING,
    )
    observation = jax.ShapeDtypeStruct((2,), jnp.float32)
    model = make_model(config, observation, NUM_ACTIONS, use_projection=use_projection)
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(x.dtype), params)


def random_targets(num_unroll_steps, seed=0):
    """Targets with random masks, those of legal actions too."""
    rng = np.random.default_rng(seed)
    shape = (BATCH, num_unroll_steps + 1)
    policy = rng.dirichlet(np.ones(NUM_ACTIONS), shape)
    masks = [rng.random((BATCH, n)) < 0.7 for n in (shape[1], shape[1], shape[1] - 1)]
    legal = rng.random((*shape, NUM_ACTIONS)) < 0.6
    legal[..., 0] |= ~legal.any(-1)
    return Targets(
        legal_action_mask=jnp.asarray(legal),
        action=jnp.asarray(rng.integers(0, NUM_ACTIONS, (BATCH, num_unroll_steps)), jnp.int32),
        policy=jnp.asarray(policy, jnp.float32),
        value=jnp.asarray(rng.normal(0, 20, shape), jnp.float32),
        reward=jnp.asarray(rng.normal(0, 5, (BATCH, num_unroll_steps)), jnp.float32),
        policy_mask=jnp.asarray(masks[0]),
        value_mask=jnp.asarray(masks[1]),
        reward_mask=jnp.asarray(masks[2]),
    )


@functools.cache
def compiled_loss(use_projection):
    """The loss with its gradient; all tests of as many unrolled steps share one program."""
    loss = functools.partial(muzero_loss, model_and_params(use_projection)[0])
    return jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)


def loss_and_gradient(
    targets, params=None, importance_weights=None, h=H, consistency_weight=0.0, rows=1
):
    use_projection = consistency_weight > 0
    observation = jax.random.normal(jax.random.key(2), (BATCH, rows, 2))
    weights = jnp.ones(BATCH) if importance_weights is None else importance_weights
    params = params or model_and_params(use_projection)[1]
    h = {name: jnp.float32(value) for name, value in h.items()}
    run = compiled_loss(use_projection)
    settings = LossConfig(consistency_weight=consistency_weight)
    return run(params, h, settings, observation, targets, weights)


def loss_of(targets, **given):
    return loss_and_gradient(targets, **given)[0]


@pytest.mark.parametrize("num_unroll_steps", [0, 1, 3])
def test_loss_matches_the_plain_python_reference(num_unroll_steps):
    targets = random_targets(num_unroll_steps, seed=num_unroll_steps)
    importance_weights = jnp.linspace(0.1, 1.0, BATCH)
    total, _ = loss_of(targets, importance_weights=importance_weights)
    model, params = model_and_params()
    observation = jax.random.normal(jax.random.key(2), (BATCH, 1, 2))[:, 0]
    output = jax.jit(model.unroll)(params, observation, targets.action.T)
    logits = {"policy": output.prior_logits, "value": output.value_logits}
    logits["reward"] = output.reward_logits
    expected = 0.0
    for b in range(BATCH):
        predictions = [
            {name: np.asarray(x[k, b], np.float64).tolist() for name, x in logits.items()}
            for k in range(num_unroll_steps + 1)
        ]
        rows = [
            {
                "policy": targets.policy[b, k].tolist(),
                "legal": targets.legal_action_mask[b, k].tolist(),
                "value": float(targets.value[b, k]),
                "reward": float(targets.reward[b, k - 1]) if k else 0.0,
                "policy_mask": bool(targets.policy_mask[b, k]),
                "value_mask": bool(targets.value_mask[b, k]),
                "reward_mask": k > 0 and bool(targets.reward_mask[b, k - 1]),
            }
            for k in range(num_unroll_steps + 1)
        ]
        loss = reference.window_loss(
            predictions, rows, WEIGHTS, (SUPPORT_SIZE, SUPPORT_SPACING), ENTROPY_WEIGHT
        )
        expected += float(importance_weights[b]) * loss / BATCH
    np.testing.assert_allclose(total, expected, rtol=2e-5)


def test_loss_without_unrolling_is_a_plain_prediction_loss():
    targets = random_targets(0)
    everything = jnp.ones((BATCH, 1), bool)
    targets = targets.replace(policy_mask=everything, value_mask=everything)
    total, (metrics, _) = loss_of(targets, h=NO_ENTROPY)
    model, params = model_and_params()
    observation = jax.random.normal(jax.random.key(2), (BATCH, 1, 2))[:, 0]
    root = jax.jit(model.initial_inference)(params, observation)
    policy = optax.softmax_cross_entropy(root.prior_logits, targets.policy[:, 0]).mean()
    labels = scalar_to_support(targets.value[:, 0], SUPPORT_SIZE, SUPPORT_SPACING)
    value = optax.softmax_cross_entropy(root.value_logits, labels).mean()
    np.testing.assert_allclose(total, policy + 0.25 * value, rtol=1e-5)
    assert metrics["loss/reward"] == 0.0


def test_loss_of_an_indifferent_model_by_hand():
    """A model whose logits are all 0 pays log(bins) a term: the root counts 1, each step 1/K."""
    flat = MuZeroModel(
        init=lambda key: {},
        represent=lambda params, observation: observation,
        predict=lambda params, x: (jnp.zeros((len(x), NUM_ACTIONS)), jnp.zeros((len(x), 9))),
        dynamics=lambda params, x, action: (x, jnp.zeros((len(x), 9)), jnp.ones(len(x))),
    )
    targets = random_targets(4)
    full = {"policy_mask": (BATCH, 5), "value_mask": (BATCH, 5), "reward_mask": (BATCH, 4)}
    targets = targets.replace(**{name: jnp.ones(shape, bool) for name, shape in full.items()})
    arguments = (jnp.ones((BATCH, 1, 2)), targets, jnp.ones(BATCH))
    loss = jax.jit(functools.partial(muzero_loss, flat, {}, NO_ENTROPY, LossConfig()))
    total, (metrics, error) = loss(*arguments)
    expected = {"policy": 2 * math.log(3), "value": 2 * math.log(9), "reward": math.log(9)}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[f"loss/{name}"], value, rtol=1e-5)
    by_hand = sum(WEIGHTS[name] * value for name, value in expected.items())
    np.testing.assert_allclose(total, by_hand, rtol=1e-5)
    # The priority is the distance of the roots' values, here 0, from their targets.
    np.testing.assert_allclose(error, jnp.abs(targets.value[:, 0]), rtol=1e-5)


def test_values_and_rewards_are_labelled_by_the_width_of_the_settings():
    targets = random_targets(2)
    model, params = model_and_params()
    observation = jax.random.normal(jax.random.key(2), (BATCH, 1, 2))
    wide = LossConfig(label_width=0.75)
    _, (metrics, _) = jax.jit(functools.partial(muzero_loss, model, params, NO_ENTROPY, wide))(
        observation, targets, jnp.ones(BATCH)
    )
    output = jax.jit(model.unroll)(params, observation[:, 0], targets.action.T)
    labels = scalar_to_support(targets.reward, SUPPORT_SIZE, SUPPORT_SPACING, 0.75)
    errors = optax.softmax_cross_entropy(output.reward_logits[1:], labels.swapaxes(0, 1))
    expected = jnp.where(targets.reward_mask.T, errors, 0.0).sum(0).mean() / 2
    np.testing.assert_allclose(metrics["loss/reward"], expected, rtol=1e-5)


def test_unrolled_states_weigh_together_what_their_setting_says():
    targets = random_targets(4)
    targets = targets.replace(
        **{
            f"{n}_mask": getattr(targets, f"{n}_mask").at[:, 0].set(False)
            for n in ("policy", "value")
        }
    )
    (once, _), (twice, _), (never, _) = (
        loss_of(targets, h={**NO_ENTROPY, "loss.unrolled_weight": w}) for w in (1.0, 2.0, 0.0)
    )
    # The root's reward does not exist, and its other terms are masked here.
    np.testing.assert_allclose(twice, 2.0 * once, rtol=1e-5)
    assert never == 0.0


def test_loss_terms_are_scaled_by_their_traced_weights():
    targets = random_targets(3)
    _, (metrics, _) = loss_of(targets)
    for name in WEIGHTS:
        only = {key: jnp.float32(key == f"loss.{name}_weight") * 3.0 for key in H} | UNROLLING
        total, _ = loss_of(targets, h=only)
        np.testing.assert_allclose(total, 3.0 * metrics[f"loss/{name}"], rtol=1e-6)
    only = {key: jnp.float32(key == "loss.entropy_weight") * 3.0 for key in H} | UNROLLING
    total, (metrics, _) = loss_of(targets, h=only)
    np.testing.assert_allclose(total, -3.0 * metrics["policy/entropy"], rtol=1e-6)


def test_entropy_by_hand_counts_legal_actions_only():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05], [0.2, 0.3, 0.5]]))
    legal = jnp.array([[True, True, True], [False, True, True], [False, False, True]])
    expected = [1.5 * math.log(2), math.log(2), 0.0]
    np.testing.assert_allclose(legal_entropy(logits, legal), expected, atol=1e-6)
    gradient = jax.grad(lambda x: legal_entropy(x, legal).sum())(logits)
    assert jnp.isfinite(gradient).all()
    # Nothing to gain: at equal logits, and at a single legal action; nothing for illegal ones.
    np.testing.assert_allclose(gradient[1:], 0.0, atol=1e-6)
    assert gradient[0, 0] < -0.1


def test_entropy_alone_makes_a_settled_prior_indifferent():
    """With targets that repeat the prior only the entropy has a gradient."""
    logits = jnp.array([2.0, -1.0, 0.0])
    legal = jnp.ones(NUM_ACTIONS, bool)
    gradient = jax.jit(jax.grad(lambda x: -legal_entropy(x, legal)))
    for _ in range(200):
        logits = logits - 0.5 * gradient(logits)
    np.testing.assert_allclose(jax.nn.softmax(logits), 1 / NUM_ACTIONS, atol=1e-3)


def test_masked_targets_do_not_matter():
    targets = random_targets(3)
    other = random_targets(3, seed=9)
    spoiled = targets.replace(
        value=jnp.where(targets.value_mask, targets.value, 1e9),
        reward=jnp.where(targets.reward_mask, targets.reward, -1e9),
        policy=jnp.where(targets.policy_mask[..., None], targets.policy, other.policy),
    )
    (spoiled_loss, _), spoiled_gradient = loss_and_gradient(spoiled)
    (loss, _), gradient = loss_and_gradient(targets)
    assert spoiled_loss == loss
    jax.tree.map(np.testing.assert_array_equal, spoiled_gradient, gradient)


def test_gradient_is_finite_with_zero_policies_at_illegal_actions_and_extreme_targets():
    targets = random_targets(3)
    policy = jnp.zeros_like(targets.policy).at[..., 0].set(1.0)
    targets = targets.replace(policy=policy, value=targets.value * 1e6)
    _, params = model_and_params()
    sharp = jax.tree.map(lambda x: 50.0 * x, params)
    for p in (params, sharp):
        _, gradient = loss_and_gradient(targets, params=p)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient))


def test_consistency_pulls_unrolled_towards_encoded_latents():
    targets = random_targets(2).replace(policy_mask=jnp.ones((BATCH, 3), bool))
    total, (metrics, _) = loss_of(targets, consistency_weight=2.0, rows=3)
    consistency = metrics["loss/consistency"]
    assert -1.0 <= consistency <= 1.0
    plain = sum(WEIGHTS[name] * metrics[f"loss/{name}"] for name in WEIGHTS)
    plain -= ENTROPY_WEIGHT * metrics["policy/entropy"]
    np.testing.assert_allclose(total, plain + 2.0 * consistency, rtol=1e-5)
    dead = targets.replace(policy_mask=jnp.zeros((BATCH, 3), bool).at[:, 0].set(True))
    _, (masked, _) = loss_of(dead, consistency_weight=2.0, rows=3)
    assert masked["loss/consistency"] == 0.0


def test_consistency_by_hand_with_vectors_in_the_plane():
    """Latents turn by a right angle a step in the model, not at all in the observations."""
    identity = lambda params, x: x  # noqa: E731
    turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    model = MuZeroModel(
        init=lambda key: {},
        represent=identity,
        predict=lambda params, x: (jnp.zeros((len(x), NUM_ACTIONS)), jnp.zeros((len(x), 9))),
        dynamics=lambda params, x, action: (x @ turn, jnp.zeros((len(x), 9)), jnp.ones(len(x))),
        project=identity,
        predict_projection=identity,
    )
    targets = random_targets(2).replace(policy_mask=jnp.ones((BATCH, 3), bool))
    observation = jnp.broadcast_to(jnp.array([3.0, 4.0]), (BATCH, 3, 2))
    loss = jax.jit(functools.partial(muzero_loss, model, {}, H, CONSISTENT))
    _, (metrics, _) = loss(observation, targets, jnp.ones(BATCH))
    # After one turn orthogonal (0), after two opposed (-1): the mean of the negatives is 1/2.
    np.testing.assert_allclose(metrics["loss/consistency"], 0.5, atol=1e-5)
    # Windows count by their importance: three of six whole, two by a half, and one not at all.
    weighed = jnp.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.0])
    _, (metrics, _) = loss(observation, targets, weighed)
    np.testing.assert_allclose(metrics["loss/consistency"], 0.5 * 4 / 6, atol=1e-5)
    # What is compared at step k is the observation k steps on.
    quarter = jnp.array([-4.0, 3.0])
    seen = jnp.stack([observation[:, 0], jnp.broadcast_to(quarter, (BATCH, 2)), -observation[:, 0]])
    _, (metrics, _) = loss(seen.swapaxes(0, 1), targets, jnp.ones(BATCH))
    np.testing.assert_allclose(metrics["loss/consistency"], -1.0, atol=1e-5)


def test_consistency_takes_no_gradient_through_the_encoded_side():
    targets = random_targets(1).replace(policy_mask=jnp.ones((BATCH, 2), bool))
    model = MuZeroModel(
        init=lambda key: {},
        # The root is encoded by `a`, and only the compared observation by `b`.
        represent=lambda p, x: jnp.where(x[:, :1] > 0, p["a"] * x, p["b"] * x + p["b"] ** 2),
        predict=lambda p, x: (jnp.zeros((len(x), NUM_ACTIONS)), jnp.zeros((len(x), 9))),
        dynamics=lambda p, x, action: (
            x + p["a"] * jnp.ones((1, 2)),
            jnp.zeros((len(x), 9)),
            jnp.ones(len(x)),
        ),
        project=lambda p, x: x,
        predict_projection=lambda p, x: x,
    )
    observation = jnp.stack([jnp.ones((BATCH, 2)), jnp.full((BATCH, 2), -2.0)], axis=1)
    observation = observation.at[:, :, 1].add(0.5)
    zero = dict.fromkeys(H, 0.0)

    def loss(params):
        return muzero_loss(model, params, zero, CONSISTENT, observation, targets, jnp.ones(BATCH))[
            0
        ]

    gradient = jax.jit(jax.grad(loss))({"a": 1.0, "b": 0.7})
    assert gradient["b"] == 0.0 and gradient["a"] != 0.0
