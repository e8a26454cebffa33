"""The model as the agents see it: pure functions over a parameter pytree.

A `MuZeroModel` can be backed by flax.linen (`model_from_linen`), flax.nnx (`model_from_nnx`) or
anything else that provides the three functions of MuZero (arXiv 1911.08265, section 3):
representation, dynamics and prediction.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx, struct

from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.maths.masked_logits import finite_logits
from muzero_jax.maths.value_support import support_to_scalar
from muzero_jax.networks.module_checks import (
    explained,
    require_methods,
    require_only_nnx_params,
    require_only_params,
    shapes_of,
)


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
        prior_logits, value_logits = self._predict(params, embedding)
        return NetworkOutput(
            embedding,
            prior_logits,
            value_logits,
            reward_logits=jnp.zeros_like(value_logits),
            continuation=jnp.ones(value_logits.shape[0]),
            support_spacing=self.support_spacing,
        )

    def recurrent_inference(self, params: Params, embedding: Array, action: Array) -> NetworkOutput:
        """Steps the latent model and evaluates the *next* latent state.

        Args:
          params: the parameters.
          embedding: `[B, *E]` latent states.
          action: `[B]` int32, one action each.
        """
        embedding, reward_logits, continuation = self.dynamics(params, embedding, action)
        prior_logits, value_logits = self._predict(params, embedding)
        return NetworkOutput(
            embedding,
            prior_logits,
            value_logits,
            reward_logits,
            continuation,
            self.support_spacing,
        )

    def unroll(self, params: Params, observation: Array, actions: Array) -> NetworkOutput:
        """Unrolls the model along given actions, as the loss does.

        Equal to `initial_inference` and then `recurrent_inference` for each action, but all
        predictions are made in one batch, and the gradient into the dynamics is halved at every
        step (paper, appendix G).

        Args:
          params: the parameters.
          observation: `[B, ...]` first observations.
          actions: `[K, B]` int32, the actions taken.

        Returns:
          A `NetworkOutput` with a leading axis `K + 1`.
        """

        def step(embedding: Array, action: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            following, reward_logits, continuation = self.dynamics(params, embedding, action)
            return scale_gradient(following, 0.5), (following, reward_logits, continuation)

        root = self.represent(params, observation)
        _, (embeddings, reward_logits, continuation) = jax.lax.scan(step, root, actions)
        embeddings = jnp.concatenate([root[None], embeddings])
        flat = embeddings.reshape((-1, *root.shape[1:]))
        prior_logits, value_logits = jax.tree.map(
            lambda x: x.reshape((*embeddings.shape[:2], -1)), self._predict(params, flat)
        )
        no_reward = jnp.zeros_like(value_logits[:1])
        reward_logits = jnp.concatenate([no_reward, reward_logits])
        continuation = jnp.concatenate([jnp.ones((1, root.shape[0])), continuation])
        return NetworkOutput(
            embeddings,
            prior_logits,
            value_logits,
            reward_logits,
            continuation,
            self.support_spacing,
        )

    def _predict(self, params: Params, embedding: Array) -> tuple[Array, Array]:
        prior_logits, value_logits = self.predict(params, embedding)
        if self.may_mask_actions:
            prior_logits = finite_logits(prior_logits)
        return prior_logits, value_logits


def scale_gradient(x: Array, scale: float) -> Array:
    """The identity, whose gradient is multiplied by `scale`."""
    return x * scale + jax.lax.stop_gradient(x) * (1.0 - scale)


def model_from_linen(
    module: nn.Module, observation: jax.ShapeDtypeStruct, support_spacing: float = 1.0
) -> MuZeroModel:
    """Wraps a linen module that has the methods `represent`, `predict` and `dynamics`.

    Args:
      module: the module, whose parts are made in its `setup`; with methods `project` and
        `predict_projection` it also serves the consistency loss, unless its field `use_projection`
        is False.
      observation: shape and dtype of one unbatched observation.
      support_spacing: see `MuZeroModel`.

    Raises:
      ConfigError: the module lacks a method, cannot be traced, or has variables that are not
        parameters, such as running averages.
    """
    require_methods(module)

    has_projection = hasattr(module, "project") and getattr(module, "use_projection", True)

    def touch_every_parameter(module: Any, observation: Array, action: Array) -> None:
        embedding, *_ = module.dynamics(module.represent(observation), action)
        module.predict(embedding)
        if has_projection:
            module.predict_projection(module.project(embedding))

    def init(rng_key: PRNGKey) -> Params:
        dummy = jnp.zeros((1, *observation.shape), observation.dtype)
        action = jnp.zeros(1, jnp.int32)
        return module.init(rng_key, dummy, action, method=touch_every_parameter)

    def method(name: str) -> Callable[..., Any]:
        return lambda params, *inputs: module.apply(params, *inputs, method=name)

    name = type(module).__name__
    variables = shapes_of(f"the network {name}", init, jax.eval_shape(jax.random.key, 0))
    require_only_params(name, variables)
    return _model(init, method, support_spacing, has_projection=has_projection)


class NnxModule(Protocol):
    """What `model_from_nnx` asks of an nnx module; see the fields of `MuZeroModel`."""

    represent: Callable[[Array], Array]
    predict: Callable[[Array], tuple[Array, Array]]
    dynamics: Callable[[Array, Array], tuple[Array, Array, Array]]


def model_from_nnx(
    make_module: Callable[[nnx.Rngs], NnxModule], support_spacing: float = 1.0
) -> MuZeroModel:
    """Wraps a flax.nnx module: split once, merged inside each pure function.

    Args:
      make_module: builds the module from its random streams; it is traced, never stored.
      support_spacing: see `MuZeroModel`.

    Raises:
      ConfigError: the module lacks a method, cannot be built in a trace, or has variables that are
        not parameters, such as running averages.
    """
    abstract = explained("the network", lambda: nnx.eval_shape(lambda: make_module(nnx.Rngs(0))))
    require_methods(abstract)
    graph, state = nnx.split(abstract)
    require_only_nnx_params(type(abstract).__name__, state)

    def init(rng_key: PRNGKey) -> Params:
        return nnx.split(make_module(nnx.Rngs(rng_key)))[1]

    def method(name: str) -> Callable[..., Any]:
        return lambda params, *inputs: getattr(nnx.merge(graph, params), name)(*inputs)

    return _model(init, method, support_spacing, has_projection=hasattr(abstract, "project"))


def _model(
    init: Callable[[PRNGKey], Params],
    method: Callable[[str], Callable[..., Any]],
    support_spacing: float,
    *,
    has_projection: bool,
) -> MuZeroModel:
    return MuZeroModel(
        init=init,
        represent=cast(Callable[[Params, Array], Array], method("represent")),
        predict=cast(Callable[[Params, Array], tuple[Array, Array]], method("predict")),
        dynamics=cast(
            Callable[[Params, Array, Array], tuple[Array, Array, Array]], method("dynamics")
        ),
        project=method("project") if has_projection else None,
        predict_projection=method("predict_projection") if has_projection else None,
        support_spacing=support_spacing,
    )
