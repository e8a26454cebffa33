"""The model as the agents see it: pure functions over a parameter pytree.

The functions are those of MuZero (arXiv 1911.08265, section 3), whatever provides them; `factory`
makes them from modules of flax.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.maths.masked_logits import finite_logits
from muzero_jax.maths.value_support import support_to_scalar


class NetworkOutput(struct.PyTreeNode):
    """What the networks say of a batch of states.

    Attributes:
      embedding: `[B, *E]` the latent states.
      prior_logits: `[B, A]` unnormalised log-probabilities of the prior policy; -inf from a network
        that masks actions arrives here as a finite number, see `maths.masked_logits`.
      value_logits: `[B, bins]` logits of the value's categorical support.
      reward_logits: `[B, bins]` logits of the reward of the step that led here; all 0 at a root.
      continuation: `[B]` what the step that led here multiplies later values with, see
        `MuZeroModel`; 1 at a root.
      support_spacing: distance of the support's atoms; see `maths.value_support`.
    """

    embedding: Array
    prior_logits: Array
    value_logits: Array
    reward_logits: Array
    continuation: Array
    support_spacing: float = struct.field(pytree_node=False, default=1.0)

    @property
    def value(self) -> Array:
        """`[B]` the value as a scalar."""
        return support_to_scalar(self.value_logits, self.support_spacing)

    @property
    def reward(self) -> Array:
        """`[B]` the reward as a scalar."""
        return support_to_scalar(self.reward_logits, self.support_spacing)


@dataclasses.dataclass(frozen=True)
class MuZeroModel:
    """The functions of MuZero over explicit parameters; every argument is batched.

    Attributes:
      init: `rng_key -> params`. The `rng_key` is consumed.
      represent: `(params, observation [B, ...]) -> embedding [B, *E]`.
      predict: `(params, embedding) -> (prior_logits [B, A], value_logits [B, bins])`.
      dynamics: `(params, embedding, action [B]) -> (embedding [B, *E], reward_logits [B, bins],
        continuation [B])`. The continuation, in [-1, 1], says how the step discounts: 1 where the
        episode goes on, 0 where it ends, and the negative where the other player moves next. It is
        multiplied by the discount of the targets, and no loss trains it yet.
      project: `(params, embedding) -> projection [B, D]`, for the consistency loss; None without.
      predict_projection: `(params, projection) -> [B, D]`, the predictor of that loss.
      support_spacing: distance of the atoms that the value and reward logits stand for.
      may_mask_actions: whether `predict` may give -inf as the logit of an action; False spares the
        networks of this package, which never do, a step that would change how their gradients are
        rounded.
    """

    init: Callable[[PRNGKey], Params]
    represent: Callable[[Params, Array], Array]
    predict: Callable[[Params, Array], tuple[Array, Array]]
    dynamics: Callable[[Params, Array, Array], tuple[Array, Array, Array]]
    project: Callable[[Params, Array], Array] | None = None
    predict_projection: Callable[[Params, Array], Array] | None = None
    support_spacing: float = 1.0
    may_mask_actions: bool = True

    def initial_inference(self, params: Params, observation: Array) -> NetworkOutput:
        """Encodes `observation` (`[B, ...]`) and evaluates it: the root of a search."""
        embedding = self.represent(params, observation)
        prior, value = self._predict(params, embedding)
        reward, continuation = jnp.zeros_like(value), jnp.ones(value.shape[0])
        return NetworkOutput(embedding, prior, value, reward, continuation, self.support_spacing)

    def recurrent_inference(self, params: Params, embedding: Array, action: Array) -> NetworkOutput:
        """Steps the latent model and evaluates the *next* latent state.

        Args:
          params: the parameters.
          embedding: `[B, *E]` latent states.
          action: `[B]` int32, one action each.
        """
        embedding, reward, continuation = self.dynamics(params, embedding, action)
        prior, value = self._predict(params, embedding)
        return NetworkOutput(embedding, prior, value, reward, continuation, self.support_spacing)

    def unroll(
        self,
        params: Params,
        observation: Array,
        actions: Array,
        gradient_scale: Array | float = 0.5,
    ) -> NetworkOutput:
        """Unrolls the model along given actions, as the loss does.

        Equal to `initial_inference` and then `recurrent_inference` for each action, but all
        predictions are made in one batch, and the gradient is scaled at every step of the dynamics
        (halved in the paper, appendix G).

        Args:
          params: the parameters.
          observation: `[B, ...]` first observations.
          actions: `[K, B]` int32, the actions taken.
          gradient_scale: `[]` scale of the gradient between one latent state and the next.

        Returns:
          A `NetworkOutput` with a leading axis `K + 1`.
        """
        root = self.represent(params, observation)
        embedding, reward, continuation = unroll_dynamics(
            functools.partial(self.dynamics, params), root, actions, gradient_scale
        )
        flat = embedding.reshape((-1, *root.shape[1:]))
        prior, value = jax.tree.map(
            lambda x: x.reshape((*embedding.shape[:2], -1)), self._predict(params, flat)
        )
        reward = jnp.concatenate([jnp.zeros_like(value[:1]), reward])
        continuation = jnp.concatenate([jnp.ones((1, root.shape[0])), continuation])
        return NetworkOutput(embedding, prior, value, reward, continuation, self.support_spacing)

    def _predict(self, params: Params, embedding: Array) -> tuple[Array, Array]:
        prior_logits, value_logits = self.predict(params, embedding)
        if self.may_mask_actions:
            prior_logits = finite_logits(prior_logits)
        return prior_logits, value_logits


def scale_gradient(x: Array, scale: Array | float) -> Array:
    """The identity, whose gradient is multiplied by `scale`."""
    return x * scale + jax.lax.stop_gradient(x) * (1.0 - scale)


def unroll_dynamics(
    dynamics: Callable[[Array, Array], tuple[Array, Array, Array]],
    root: Array,
    actions: Array,
    gradient_scale: Array | float,
) -> tuple[Array, Array, Array]:
    """Steps a model along given actions.

    Args:
      dynamics: `(embedding [B, *E], action [B]) -> (embedding, reward_logits, continuation)`.
      root: `[B, *E]` first latent states.
      actions: `[K, B]` int32.
      gradient_scale: `[]` scale of the gradient between one latent state and the next.

    Returns:
      `[K + 1, B, *E]` latent states, `[K, B, bins]` logits of the rewards, and `[K, B]`
      continuations.
    """

    def step(embedding: Array, action: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        following, reward, continuation = dynamics(embedding, action)
        return scale_gradient(following, gradient_scale), (following, reward, continuation)

    _, (embedding, reward, continuation) = jax.lax.scan(step, root, actions)
    return jnp.concatenate([root[None], embedding]), reward, continuation
