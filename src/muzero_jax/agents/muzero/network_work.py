"""The network passes that MuZero cannot avoid, for profiles of the loop."""

import math

import jax
import jax.numpy as jnp

from muzero_jax.agents.definition import ChunkSizes
from muzero_jax.agents.muzero.agent import make_muzero_model
from muzero_jax.agents.muzero.settings import MuZeroSettings
from muzero_jax.agents.muzero.targets import bootstrap_rows, make_window_spec
from muzero_jax.agents.optimizer import apply_gradient
from muzero_jax.core.types import Array, Params, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.networks.model import NetworkOutput


class NetworkWork:
    """The network passes of one chunk without everything else that the chunk does.

    For acting, each step makes a root inference and one recurrent inference a simulation. For
    learning, each update works out the values of the bootstrapped observations, and runs the
    unrolled model forward and backward; with Reanalyse there are the inferences of its searches,
    with the consistency loss its heads. Values of final observations are not counted, since they
    are computed only where a batch holds one.
    """

    def __init__(self, settings: MuZeroSettings, env: Environment, sizes: ChunkSizes):
        self.settings, self.spec, self.sizes = settings, env.spec, sizes
        self.model = make_muzero_model(settings, env.spec)
        self.num_simulations = settings.search.num_simulations
        self.num_reanalysed = self._reanalysed_states()
        self.num_bootstraps = 0
        if settings.target.bootstrap != "search":
            rows = len(bootstrap_rows(settings.target))
            self.num_bootstraps = settings.replay.batch_size * rows

    @property
    def num_searches(self) -> int:
        """Searches of one chunk, those of Reanalyse among them."""
        sizes = self.sizes
        acted = sizes.iterations * sizes.rollout_length * sizes.num_envs
        return acted + sizes.num_updates * self.num_reanalysed

    def _reanalysed_states(self) -> int:
        """States searched afresh in one update."""
        settings = self.settings
        windows = math.ceil(settings.target.reanalyse_fraction * settings.replay.batch_size)
        window = make_window_spec(
            settings.target, all_unrolled=settings.loss.consistency_weight > 0
        )
        return windows * (len(window.observation_offsets) + self.spec.can_truncate)

    def optimiser(self, agent_state: PyTree) -> PyTree:
        """The chunk's optimiser steps, each along the parameters themselves."""

        def step(carry: PyTree, _: None) -> tuple[PyTree, Array]:
            params, optimizer = carry
            params, optimizer, norm = apply_gradient(
                params, params, optimizer, agent_state.hyperparameters, jnp.float32(1.0)
            )
            return (params, optimizer), norm

        first = agent_state.params, agent_state.optimizer
        return jax.lax.scan(step, first, None, length=self.sizes.num_updates)

    def acting(self, agent_state: PyTree, rng_key: PRNGKey) -> Array:
        """The part of a chunk's acting."""
        params = agent_state.params
        keys = jax.random.split(rng_key, self.sizes.iterations)
        return jax.lax.map(lambda key: self._act(params, key), keys).sum()

    def learning(self, agent_state: PyTree, rng_key: PRNGKey) -> Params:
        """The part of a chunk's learning."""
        params = agent_state.params
        num_iterations = self.sizes.iterations
        keys = jax.random.split(rng_key, num_iterations * self.sizes.updates_per_iteration)
        return jax.lax.scan(self._learn, params, keys)[0]

    def _act(self, params: Params, rng_key: PRNGKey) -> Array:
        def act(_: None, rng_key: PRNGKey) -> tuple[None, Array]:
            return None, self._search(params, rng_key, self.sizes.num_envs)

        _, acted = jax.lax.scan(act, None, jax.random.split(rng_key, self.sizes.rollout_length))
        return acted.sum()

    def _search(self, params: Params, rng_key: PRNGKey, size: int) -> Array:
        root = self.model.initial_inference(params, self._observe(rng_key, size))

        def simulate(output: NetworkOutput, _: None) -> tuple[NetworkOutput, None]:
            action = jnp.argmax(output.prior_logits, axis=-1)
            output = self.model.recurrent_inference(params, output.embedding, action)
            # The scalars are read by every simulation; adding them keeps them from being removed.
            scalars = output.value + output.reward
            return output.replace(prior_logits=output.prior_logits + scalars[:, None]), None

        length = self.settings.search.num_simulations
        output, _ = jax.lax.scan(simulate, root, None, length=length)
        return output.prior_logits.sum()

    def _learn(self, params: Params, rng_key: PRNGKey) -> tuple[Params, None]:
        fresh = jnp.zeros(())
        if self.num_bootstraps:
            observation = self._observe(rng_key, self.num_bootstraps)
            fresh += self.model.initial_inference(params, observation).value.sum()
        if self.num_reanalysed:
            fresh += self._search(params, rng_key, self.num_reanalysed)
        batch_size = self.settings.replay.batch_size
        actions = jnp.zeros((self.settings.target.num_unroll_steps, batch_size), jnp.int32)

        def loss(params: Params) -> Array:
            output = self.model.unroll(params, self._observe(rng_key, batch_size), actions)
            logits = (output.prior_logits, output.value_logits, output.reward_logits)
            total = sum((jax.nn.log_softmax(x)[..., 0].sum() for x in logits), fresh)
            return total + self._consistency(params, output.embedding[1:], rng_key)

        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 1e-12 * (g + value * 0.0), params, gradient), None

    def _consistency(self, params: Params, embedding: Array, rng_key: PRNGKey) -> Array:
        if not self.settings.loss.consistency_weight:
            return jnp.zeros(())
        assert self.model.project is not None and self.model.predict_projection is not None
        flat = embedding.reshape((-1, *embedding.shape[2:]))
        encoded = self.model.represent(params, self._observe(rng_key, len(flat)))
        target = jax.lax.stop_gradient(self.model.project(params, encoded))
        prediction = self.model.predict_projection(params, self.model.project(params, flat))
        return (prediction * target).sum()

    def _observe(self, rng_key: PRNGKey, size: int) -> Array:
        # One random number, so that no pass is moved out of its loop, and hardly any other work.
        return jnp.full((size, *self.spec.observation_shape), jax.random.uniform(rng_key))
