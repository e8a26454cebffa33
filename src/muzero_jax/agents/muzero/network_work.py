"""The network passes that MuZero cannot avoid, for profiles of the loop."""

import math

import jax
import jax.numpy as jnp

from muzero_jax.agents.base import NetworkWork
from muzero_jax.agents.muzero.losses import consistency
from muzero_jax.agents.muzero.settings import MuZeroSettings
from muzero_jax.agents.muzero.targets import bootstrap_rows
from muzero_jax.agents.network_state import NetworkState
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.envs.base import EnvironmentSpec
from muzero_jax.networks.model import MuZeroModel, NetworkOutput
from muzero_jax.replay.buffer import WindowSpec


def make_network_work(
    settings: MuZeroSettings, spec: EnvironmentSpec, model: MuZeroModel, window: WindowSpec
) -> NetworkWork:
    """The network passes of acting and of learning.

    Acting makes a root inference and one recurrent inference a simulation. An update works out the
    values of the bootstrapped observations and runs the unrolled model forward and backward, with
    the searches of Reanalyse and the heads of the consistency loss. Values of final observations
    are not counted, since they are computed only where a batch holds one; nor are the small
    networks of `agents.explorer`.

    Args:
      settings: the settings of the agent.
      spec: the description of the environment.
      model: the networks.
      window: the windows that are learned from.
    """
    return _Passes(settings, spec, model, window).as_work()


class _Passes:
    def __init__(
        self,
        settings: MuZeroSettings,
        spec: EnvironmentSpec,
        model: MuZeroModel,
        window: WindowSpec,
    ):
        self.settings, self.spec, self.model = settings, spec, model
        target, self.batch_size = settings.target, settings.replay.batch_size
        windows = math.ceil(target.reanalyse_fraction * self.batch_size)
        self.num_reanalysed = windows * (len(window.observation_offsets) + spec.can_truncate)
        rows = 0 if target.bootstrap == "search" else len(bootstrap_rows(target))
        self.num_bootstraps = self.batch_size * rows

    def as_work(self) -> NetworkWork:
        return NetworkWork(
            num_simulations=self.settings.search.num_simulations,
            num_searches=self.num_reanalysed,
            act=lambda state, rng_key, num_envs: self.search(state.params, rng_key, num_envs),
            learn=self.learn,
            optimise=lambda state: state.descended(state.params, self.settings.optimizer, 1)[0],
        )

    def search(self, params: Params, rng_key: PRNGKey, size: int) -> Array:
        root = self.model.initial_inference(params, self.observe(rng_key, size))

        def simulate(output: NetworkOutput, _: None) -> tuple[NetworkOutput, None]:
            action = jnp.argmax(output.prior_logits, axis=-1)
            output = self.model.recurrent_inference(params, output.embedding, action)
            # The scalars are read by every simulation; adding them keeps them from being removed.
            scalars = output.value + output.reward
            return output.replace(prior_logits=output.prior_logits + scalars[:, None]), None

        length = self.settings.search.num_simulations
        output, _ = jax.lax.scan(simulate, root, None, length=length)
        return output.prior_logits.sum()

    def learn(self, state: NetworkState, rng_key: PRNGKey) -> NetworkState:
        fresh = jnp.zeros(())
        if self.num_bootstraps:
            observation = self.observe(rng_key, self.num_bootstraps)
            fresh += self.model.initial_inference(state.params, observation).value.sum()
        if self.num_reanalysed:
            fresh += self.search(state.params, rng_key, self.num_reanalysed)
        actions = jnp.zeros((self.settings.target.num_unroll_steps, self.batch_size), jnp.int32)

        def loss(params: Params) -> Array:
            observation = self.observe(rng_key, self.batch_size)
            output = self.model.unroll(params, observation, actions)
            logits = (output.prior_logits, output.value_logits, output.reward_logits)
            total = sum((jax.nn.log_softmax(x)[..., 0].sum() for x in logits), fresh)
            if not self.settings.loss.consistency_weight:
                return total
            embedding = output.embedding[1:]
            seen = jnp.broadcast_to(observation, (len(embedding), *observation.shape))
            return total + consistency(self.model, params, embedding, seen).sum()

        value, gradient = jax.value_and_grad(loss)(state.params)
        # The parameters change by next to nothing, so that no update is moved out of its loop.
        params = jax.tree.map(lambda p, g: p - 1e-12 * (g + value * 0.0), state.params, gradient)
        return state.replace(params=params)

    def observe(self, rng_key: PRNGKey, size: int) -> Array:
        # One random number, so that no pass is moved out of its loop, and hardly any other work.
        return jnp.full((size, *self.spec.observation_shape), jax.random.uniform(rng_key))
