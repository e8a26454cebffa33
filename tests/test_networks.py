import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import counting_model

from muzero_jax.config import ConfigError, NetworkConfig
from muzero_jax.maths.value_support import support_to_scalar
from muzero_jax.networks.architectures import (
    BOUND_LATENT,
    normalise_embedding,
    scale_embedding,
    simplex_embedding,
)
from muzero_jax.networks.factory import make_model, model_from_nnx
from muzero_jax.networks.model import MuZeroModel, scale_gradient

MLP = NetworkConfig(kind="mlp", embedding_size=6, hidden_sizes=(8,), support_size=4)
RESNET = NetworkConfig(kind="resnet", num_channels=4, head_hidden_size=8, support_size=4)
VECTOR = jax.ShapeDtypeStruct((3,), jnp.float32)
GRID = jax.ShapeDtypeStruct((5, 4, 2), jnp.bool_)
CASES = {
    "mlp": (MLP, VECTOR),
    "mlp_grid": (MLP, GRID),
    "mlp_grid_no_stem": (dataclasses.replace(MLP, stem_channels=0), GRID),
    "resnet": (RESNET, GRID),
    "resnet_downsample": (dataclasses.replace(RESNET, downsample=1), GRID),
    "bfloat16": (dataclasses.replace(MLP, compute_dtype="bfloat16"), VECTOR),
    "resnet_bfloat16": (dataclasses.replace(RESNET, compute_dtype="bfloat16"), GRID),
}
NUM_ACTIONS, NUM_BINS, BATCH = 3, 9, 5


@functools.cache
def built(case: str) -> tuple[MuZeroModel, dict, jax.Array]:
    """A model, parameters whose heads are not 0, and a batch of observations."""
    config, observation = CASES[case]
    model = make_model(config, observation, NUM_ACTIONS, use_projection=True)
    params = jax.jit(model.init)(jax.random.key(0))
    noise = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + noise.normal(0, 0.1, x.shape).astype(x.dtype), params)
    shape = (BATCH, *observation.shape)
    seen = (
        noise.normal(size=shape) if observation.dtype == jnp.float32 else noise.random(shape) < 0.5
    )
    return model, params, jnp.asarray(seen, observation.dtype)


def tolerance(case):
    return {"rtol": 0.05, "atol": 0.05} if "bfloat16" in case else {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("case", CASES)
def test_unroll_equals_initial_and_recurrent_inference(case):
    model, params, observation = built(case)
    actions = jax.random.randint(jax.random.key(1), (4, BATCH), 0, NUM_ACTIONS)

    @jax.jit
    def both(params, observation, actions):
        def step(output, action):
            output = model.recurrent_inference(params, output.embedding, action)
            return output, output

        root = model.initial_inference(params, observation)
        steps = jax.lax.scan(step, root, actions)[1]
        one_by_one = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), root, steps)
        return model.unroll(params, observation, actions), one_by_one

    unrolled, expected = both(params, observation, actions)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **tolerance(case)), unrolled, expected
    )
    assert unrolled.prior_logits.shape == (5, BATCH, NUM_ACTIONS)
    assert unrolled.value_logits.shape == unrolled.reward_logits.shape == (5, BATCH, NUM_BINS)
    # Each latent differs from the last, so that an off-by-one would be seen.
    assert (jnp.abs(jnp.diff(unrolled.embedding, axis=0)).max(axis=0) > 1e-3).any()


@pytest.mark.parametrize("case", CASES)
def test_parameters_and_outputs_are_float32_whatever_the_compute_dtype(case):
    model, params, observation = built(case)
    output = jax.eval_shape(model.initial_inference, params, observation)
    action = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    step = jax.eval_shape(model.recurrent_inference, params, output.embedding, action)
    for leaf in jax.tree.leaves((params, output, step)):
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("case", ["mlp", "resnet"])
def test_action_enters_the_dynamics(case):
    model, params, observation = built(case)
    embedding = jax.jit(model.represent)(params, observation[:1])
    embedding = jnp.repeat(embedding, NUM_ACTIONS, axis=0)
    output = jax.jit(model.recurrent_inference)(params, embedding, jnp.arange(NUM_ACTIONS))
    for leaf in (output.embedding, output.reward_logits, output.prior_logits):
        assert jnp.abs(leaf[0] - leaf[1]).max() > 1e-4
        assert jnp.abs(leaf[1] - leaf[2]).max() > 1e-4


@pytest.mark.parametrize("case", ["mlp", "resnet"])
@pytest.mark.parametrize(("num_players", "expected"), [(1, 1.0), (2, -1.0)])
def test_the_players_decide_the_continuation(case, num_players, expected):
    config, observation = CASES[case]
    model = make_model(config, observation, NUM_ACTIONS, num_players=num_players)
    _, params, seen = built(case)
    actions = jnp.zeros((2, BATCH), jnp.int32)
    continuation = jax.jit(lambda *inputs: model.unroll(*inputs).continuation)(
        params, seen, actions
    )
    np.testing.assert_array_equal(continuation[0], 1.0)
    np.testing.assert_array_equal(continuation[1:], expected)
    assert continuation.shape == (3, BATCH)


@pytest.mark.parametrize("case", ["mlp", "resnet"])
def test_fresh_network_is_indifferent(case):
    config, observation = CASES[case]
    model = make_model(config, observation, NUM_ACTIONS, use_projection=True)
    params = jax.jit(model.init)(jax.random.key(0))
    output = jax.jit(model.initial_inference)(params, built(case)[2])
    np.testing.assert_array_equal(output.prior_logits, 0.0)
    np.testing.assert_allclose(output.value, 0.0, atol=1e-6)


def test_recurrent_inference_reads_the_next_latent():
    model, params = counting_model(), {"scale": 1.0}
    root = model.initial_inference(params, jnp.array([[7.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(root.value, [7.0, 1.0], rtol=1e-3)
    np.testing.assert_allclose(root.reward, 0.0, atol=1e-5)
    step = model.recurrent_inference(params, root.embedding, jnp.array([0, 2]))
    np.testing.assert_allclose(step.embedding, [17.0, 31.0])
    np.testing.assert_allclose(step.value, [17.0, 31.0], rtol=1e-3)
    np.testing.assert_allclose(step.reward, [1.0, 3.0], rtol=1e-3)


def test_unroll_of_no_steps_is_the_root():
    model, params, observation = built("mlp")
    unrolled = jax.jit(model.unroll)(params, observation, jnp.zeros((0, BATCH), jnp.int32))
    root = jax.jit(model.initial_inference)(params, observation)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[0], y, rtol=1e-5), unrolled, root)


def test_scale_gradient_is_the_identity_with_exactly_half_the_gradient():
    x = jnp.array([0.3, -1.7, 1e-3])
    np.testing.assert_allclose(scale_gradient(x, 0.5), x, rtol=1e-7)
    gradient = jax.grad(lambda x: (scale_gradient(x, 0.5) ** 2).sum())(x)
    np.testing.assert_array_equal(gradient, x)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_unroll_scales_the_gradient_once_for_each_step_into_the_dynamics(scale):
    """With a linear latent, the root's share of step k's output is worth scale^(k-1)."""
    model = MuZeroModel(
        init=lambda key: {"w": jnp.ones(())},
        represent=lambda params, observation: params["w"] * observation,
        predict=lambda params, embedding: (embedding, embedding),
        dynamics=lambda params, embedding, action: (embedding + 1.0, embedding, jnp.ones(1)),
    )

    def prior(w, k):
        output = model.unroll({"w": w}, jnp.ones((1, 1)), jnp.zeros((3, 1), jnp.int32), scale)
        return output.prior_logits[k].sum()

    # The root and the first step are not scaled: the first is the root's own encoding.
    expected = [1.0, 1.0, scale, scale**2]
    np.testing.assert_allclose([jax.grad(prior)(1.0, k) for k in range(4)], expected)


def test_scale_embedding_spans_the_unit_interval_for_each_item():
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 2)) * 100
    y = scale_embedding(x)
    np.testing.assert_allclose(y.min((1, 2, 3)), 0.0)
    np.testing.assert_allclose(y.max((1, 2, 3)), 1.0, rtol=1e-5)
    # Items do not influence each other.
    np.testing.assert_array_equal(scale_embedding(x[:1]), y[:1])


def test_normalised_embeddings_have_mean_0_and_variance_1_for_each_item():
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 8)) * 100 + 7
    y = normalise_embedding(x)
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 2, 3)), 1.0, rtol=1e-4)
    assert jnp.isfinite(normalise_embedding(jnp.full((2, 6), 3.0))).all()


def test_simplex_embeddings_are_softmaxes_of_eight_entries_each():
    x = jax.random.normal(jax.random.key(0), (4, 16))
    y = simplex_embedding(x)
    np.testing.assert_allclose(y.reshape((4, 2, 8)).sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(y[:, 8:], jax.nn.softmax(x[:, 8:]), rtol=1e-6)
    with pytest.raises(ConfigError, match="latent simplex needs widths that are multiples of 8"):
        NetworkConfig(kind="mlp", latent="simplex", embedding_size=20)


@pytest.mark.parametrize("latent", ["layer_norm", "simplex"])
@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_every_latent_state_of_an_unroll_is_in_bounds(kind, latent):
    config = NetworkConfig(
        kind=kind, latent=latent, embedding_size=8, num_channels=8, hidden_sizes=(8,)
    )
    model = make_model(config, jax.ShapeDtypeStruct((3, 3, 2), jnp.float32), 2)
    params = model.init(jax.random.key(0))
    observation = 100 * jax.random.normal(jax.random.key(1), (2, 3, 3, 2))
    states = jax.jit(model.unroll)(params, observation, jnp.ones((2, 2), jnp.int32)).embedding
    bound = BOUND_LATENT[latent]
    flat = states.reshape((-1, *states.shape[2:]))
    if latent == "layer_norm":
        np.testing.assert_allclose(bound(flat), flat, atol=1e-4)
    else:
        np.testing.assert_allclose(flat.reshape((len(flat), -1, 8)).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e6])
def test_scale_embedding_of_equal_values_is_finite_with_its_gradient(constant):
    x = jnp.full((2, 6), constant)
    value, gradient = jax.value_and_grad(lambda x: scale_embedding(x).sum())(x)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_rows_of_a_batch_do_not_influence_each_other():
    for case in ("mlp", "resnet"):
        model, params, observation = built(case)
        infer = jax.jit(model.initial_inference)
        base = infer(params, observation)
        other = infer(params, observation.at[1:].set(jnp.zeros_like(observation[1:])))
        np.testing.assert_array_equal(base.prior_logits[0], other.prior_logits[0])


def test_auto_takes_mlp_for_vectors_and_resnet_for_grids():
    config = dataclasses.replace(RESNET, kind="auto")
    for observation, rank in ((VECTOR, 2), (GRID, 4)):
        model = make_model(config, observation, NUM_ACTIONS)
        params = jax.eval_shape(model.init, jax.random.key(0))
        batch = jax.ShapeDtypeStruct((1, *observation.shape), observation.dtype)
        assert len(jax.eval_shape(model.represent, params, batch).shape) == rank


def test_resnet_refuses_a_vector():
    with pytest.raises(ConfigError, match="needs grid observations"):
        make_model(RESNET, VECTOR, NUM_ACTIONS)


def test_projection_heads_have_parameters_only_when_asked_for():
    def num_leaves(use_projection):
        model = make_model(MLP, VECTOR, NUM_ACTIONS, use_projection=use_projection)
        return len(jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))

    assert num_leaves(True) > num_leaves(False)


def test_init_depends_on_the_key():
    model = built("mlp")[0]
    one, two = (jax.jit(model.init)(jax.random.key(seed)) for seed in (0, 1))
    kernels = [k for k, x in enumerate(jax.tree.leaves(one)) if x.ndim == 2 and jnp.any(x != 0)]
    assert kernels
    for k in kernels:
        assert jnp.any(jax.tree.leaves(one)[k] != jax.tree.leaves(two)[k])


class NnxToy(nnx.Module):
    """The smallest nnx model: one linear layer for each function."""

    def __init__(self, rngs: nnx.Rngs):
        self.encoder = nnx.Linear(3, 6, rngs=rngs)
        self.transition = nnx.Linear(6 + NUM_ACTIONS, 6 + NUM_BINS, rngs=rngs)
        self.head = nnx.Linear(6, NUM_ACTIONS + NUM_BINS, rngs=rngs)

    def represent(self, observation):
        return scale_embedding(self.encoder(observation))

    def predict(self, embedding):
        output = self.head(embedding)
        return output[:, :NUM_ACTIONS], output[:, NUM_ACTIONS:]

    def dynamics(self, embedding, action):
        onehot = jax.nn.one_hot(action, NUM_ACTIONS)
        output = self.transition(jnp.concatenate([embedding, onehot], axis=-1))
        return scale_embedding(output[:, :6]), output[:, 6:], jnp.ones(len(output))


def test_nnx_bridge_is_pure_and_seeded():
    model = model_from_nnx(NnxToy)
    params = jax.jit(model.init)(jax.random.key(0))
    init = jax.jit(model.init)
    again, other = init(jax.random.key(0)), init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    kernel = jax.tree.leaves(params)[-1]
    assert jnp.any(kernel != jax.tree.leaves(other)[-1])
    unroll = jax.jit(model.unroll)
    inputs = jnp.ones((2, 3)), jnp.zeros((2, 2), jnp.int32)
    assert unroll(params, *inputs).value_logits.shape == (3, 2, NUM_BINS)
    # The parameters given are those used, not those of the module that was split.
    zeros = jax.tree.map(jnp.zeros_like, params)
    np.testing.assert_array_equal(unroll(zeros, *inputs).prior_logits, 0.0)
    assert model.project is None


def test_scalars_are_read_off_the_support_that_the_model_has():
    wide, fine = (
        make_model(dataclasses.replace(MLP, support_spacing=spacing), VECTOR, NUM_ACTIONS)
        for spacing in (1.0, 0.25)
    )
    params = jax.tree.map(lambda x: x + 0.3, jax.jit(wide.init)(jax.random.key(0)))
    inputs = (params, jax.random.normal(jax.random.key(1), (2, 3)))
    actions = jnp.zeros((1, 2), jnp.int32)
    for spacing, model in ((1.0, wide), (0.25, fine)):

        @jax.jit
        def outputs(params, observation, actions, model=model):
            root = model.initial_inference(params, observation)
            step = model.recurrent_inference(params, root.embedding, actions[0])
            return root, step, model.unroll(params, observation, actions)

        for output in outputs(*inputs, actions):
            expected = support_to_scalar(output.value_logits, spacing)
            np.testing.assert_array_equal(output.value, expected)
            np.testing.assert_array_equal(
                output.reward, support_to_scalar(output.reward_logits, spacing)
            )
