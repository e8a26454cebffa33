"""A network may mask actions with -inf: losses, gradients and searches stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_batch, muzero_agent, tiny_config, tiny_spec

from muzero_jax.agents.muzero.losses import legal_entropy
from muzero_jax.config import SearchConfig, traced_settings
from muzero_jax.maths.masked_logits import LOWEST_LOGIT, finite_logits
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.search.policies import (
    RecurrentFnOutput,
    RootFnOutput,
    SearchNoise,
    make_search,
)

NUM_ACTIONS, NUM_BINS = 3, 11


def masking_model(mask_value) -> MuZeroModel:
    """A linear model that gives its first action no probability."""

    def predict(params, x):
        logits = x @ params["policy"]
        logits = jnp.where(jnp.arange(NUM_ACTIONS)[None] == 0, mask_value, logits)
        return logits, x @ params["value"]

    return MuZeroModel(
        init=lambda key: {
            "policy": jnp.full((2, NUM_ACTIONS), 0.1),
            "value": jnp.full((2, NUM_BINS), 0.1),
        },
        represent=lambda params, observation: observation,
        predict=predict,
        dynamics=lambda params, x, action: (0.5 * x, x @ params["value"], jnp.ones(len(x))),
    )


def learned(mask_value):
    config = tiny_config(loss={"entropy_weight": 0.1})
    agent = muzero_agent(config, tiny_spec(), masking_model(mask_value))
    state = jax.jit(agent.init)(jax.random.key(0), traced_settings(config))
    batch = make_batch(agent.data.spec, 4, NUM_ACTIONS)
    weights = batch.transitions.record.action_weights.at[..., 0].set(0.0)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    record = batch.transitions.record.replace(action_weights=weights)
    batch = batch.replace(transitions=batch.transitions.replace(record=record))
    return jax.jit(agent.learn)(state, jax.random.key(1), batch)


def test_masked_actions_leave_losses_and_parameters_finite_and_right():
    masked = learned(-jnp.inf)
    for name, value in masked.metrics.items():
        assert jnp.isfinite(value), name
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(masked.state.params))
    # A hopeless but finite logit leads to the same update.
    hopeless = learned(-200.0)
    jax.tree.map(np.testing.assert_array_equal, masked.state.params, hopeless.state.params)
    np.testing.assert_allclose(masked.metrics["loss/policy"], hopeless.metrics["loss/policy"])


def test_only_what_is_infinitely_low_is_changed():
    logits = jnp.array([-jnp.inf, -3.0, 0.0, 50.0, jnp.inf, jnp.nan])
    expected = [LOWEST_LOGIT, -3.0, 0.0, 50.0, jnp.inf, jnp.nan]
    np.testing.assert_array_equal(finite_logits(logits), expected)
    assert finite_logits(logits.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_entropy_of_masked_logits_is_that_of_the_others():
    legal = jnp.array([[True, True, True, False]])
    logits = finite_logits(jnp.array([[-jnp.inf, 1.0, 1.0, 7.0]]))
    np.testing.assert_allclose(legal_entropy(logits, legal), jnp.log(2.0), rtol=1e-6)
    assert jnp.isfinite(jax.grad(lambda x: legal_entropy(x, legal).sum())(logits)).all()


@pytest.mark.parametrize("policy", ["gumbel", "muzero"])
@pytest.mark.parametrize("engine", ["cpp", "linear", "mctx"])
def test_a_search_takes_a_legal_action_even_where_the_network_masks_all_of_those(policy, engine):
    search = make_search(SearchConfig(policy=policy, engine=engine, num_simulations=6))
    inf = jnp.inf
    root = RootFnOutput(
        prior_logits=jnp.array([[0.0, -inf, -inf], [-inf, 0.3, 0.0], [-inf, -inf, -inf]]),
        value=jnp.zeros(3),
        embedding=jnp.zeros(3),
    )
    legal = jnp.array([[False, True, True], [True, True, True], [True, False, True]])

    def recurrent_fn(params, rng_key, action, embedding):
        logits = jnp.broadcast_to(jnp.array([0.0, -inf, 1.0]), (3, 3))
        output = RecurrentFnOutput(
            reward=0.1 * action,
            discount=jnp.full(3, 0.9),
            prior_logits=logits,
            value=jnp.zeros(3),
        )
        return output, embedding

    noise = SearchNoise(1.0, 0.3, 0.25, 1.0)
    run = jax.jit(lambda root: search(None, jax.random.key(0), root, recurrent_fn, legal, noise))
    output = run(root)
    assert jnp.take_along_axis(legal, output.action[:, None], axis=1).all()
    assert jnp.isfinite(output.action_weights).all() and jnp.isfinite(output.search_value).all()
    np.testing.assert_allclose(output.action_weights.sum(axis=1), 1.0, rtol=1e-5)
    assert (output.action_weights[~legal] == 0.0).all()
