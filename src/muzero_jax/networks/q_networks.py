"""Networks of action values: MuZero's bodies, with a value for each action in the place of a prior.

Their layers have the names that they have in MuZero's networks, so that from one key the layers
that both have begin with the same values.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.maths.value_support import support_to_scalar
from muzero_jax.networks.architectures import (
    MLPNetwork,
    MuZeroNetwork,
    OutputHead,
    ResNetNetwork,
)
from muzero_jax.networks.factory import make_module
from muzero_jax.networks.model import unroll_dynamics
from muzero_jax.networks.settings import NetworkConfig


class QHeads(MuZeroNetwork):
    """The heads of a network of action values.

    Attributes:
      categorical: whether a value is a distribution over the atoms of the support, and no number.
      dueling: whether a value is the sum of one of the state and one of the action's advantage
        (Wang et al. 2016, arXiv 1511.06581, equation 9).
    """

    categorical: bool
    dueling: bool

    def setup_heads(self, projection_size: int) -> None:
        """Builds the output heads; the one of the reward has parameters where the model is used."""
        del projection_size
        size = self.num_bins if self.categorical else 1
        self.action_head = OutputHead(self.num_actions * size, self.dtype)
        if self.dueling:
            self.value_head = OutputHead(size, self.dtype)
        self.reward_head = OutputHead(self.num_bins, self.dtype)

    def qvalues(self, embedding: Array) -> Array:
        """`[B, A, bins]` logits of the actions' values, or `[B, A, 1]` values."""
        hidden = self.prediction_torso(embedding)
        outputs = self.action_head(hidden).reshape((len(hidden), self.num_actions, -1))
        if self.dueling:
            outputs = outputs - outputs.mean(axis=1, keepdims=True)
            outputs = outputs + self.value_head(hidden)[:, None]
        return outputs


class MLPQNetwork(QHeads, MLPNetwork):
    """Action values over a latent vector."""


class ResNetQNetwork(QHeads, ResNetNetwork):
    """Action values over a latent grid."""


_ARCHITECTURES: dict[str, type[QHeads]] = {"mlp": MLPQNetwork, "resnet": ResNetQNetwork}


@dataclasses.dataclass(frozen=True)
class QModel:
    """The functions of a network of action values over explicit parameters.

    Attributes:
      init: `rng_key -> params`. The `rng_key` is consumed.
      represent: `(params, observation [B, ...]) -> embedding [B, *E]`.
      outputs: `(params, embedding) -> [B, A, bins]` logits, or `[B, A, 1]` values.
      dynamics: `(params, embedding, action [B]) -> (embedding, reward_logits [B, bins],
        continuation [B])`; it has parameters in a model that was made with `unrolls` only.
      support_spacing: distance of the atoms that the logits stand for.
    """

    init: Callable[[PRNGKey], Params]
    represent: Callable[[Params, Array], Array]
    outputs: Callable[[Params, Array], Array]
    dynamics: Callable[[Params, Array, Array], tuple[Array, Array, Array]]
    support_spacing: float

    def qvalues(self, params: Params, observation: Array) -> Array:
        """`[B, A]` values of the actions in `[B, ...]` observations."""
        return self.scalars(self.outputs(params, self.represent(params, observation)))

    def best_values(
        self, params: Params, seen: Array, legal: Array, choosing: Params | None = None
    ) -> Array:
        """`[M]` values of the best legal actions; 0 where none is legal, as where an episode ended.

        Args:
          params: the parameters that value the actions.
          seen: `[M, ...]` observations.
          legal: `[M, A]` bool.
          choosing: the parameters that choose the action; those that value it where None.
        """
        values = self.qvalues(params, seen)
        ranked = values if choosing is None else self.qvalues(choosing, seen)
        action = jnp.argmax(jnp.where(legal, ranked, -jnp.inf), axis=-1)
        best = jnp.take_along_axis(values, action[:, None], axis=-1)[:, 0]
        return jnp.where(legal.any(axis=-1), best, 0.0)

    def scalars(self, outputs: Array) -> Array:
        """`[..., A]` values from `[..., A, bins]` logits or `[..., A, 1]` values."""
        is_number = outputs.shape[-1] == 1
        return outputs[..., 0] if is_number else support_to_scalar(outputs, self.support_spacing)

    def unroll(
        self, params: Params, observation: Array, actions: Array, gradient_scale: Array | float
    ) -> tuple[Array, Array]:
        """Unrolls the model along given actions.

        Args:
          params: the parameters.
          observation: `[B, ...]` first observations.
          actions: `[K, B]` int32, the actions taken.
          gradient_scale: `[]` scale of the gradient between one latent state and the next.

        Returns:
          The `[K + 1, B, A, bins or 1]` outputs, and the `[K, B, bins]` logits of the rewards.
        """
        root = self.represent(params, observation)
        if not len(actions):
            return self.outputs(params, root)[None], jnp.zeros((0, len(root), 1))
        dynamics = functools.partial(self.dynamics, params)
        embedding, reward, _ = unroll_dynamics(dynamics, root, actions, gradient_scale)
        outputs = self.outputs(params, embedding.reshape((-1, *root.shape[1:])))
        return outputs.reshape((*embedding.shape[:2], *outputs.shape[1:])), reward


def make_q_model(
    config: NetworkConfig,
    observation: jax.ShapeDtypeStruct,
    num_actions: int,
    *,
    categorical: bool = False,
    dueling: bool = False,
    unrolls: bool = False,
) -> QModel:
    """Builds the network of action values that `config` describes.

    Args:
      config: the architecture.
      observation: shape and dtype of one observation; rank 3 `[H, W, C]` is a grid.
      num_actions: `A`.
      categorical: see `QHeads`.
      dueling: see `QHeads`.
      unrolls: whether the model has parameters of its dynamics.

    Raises:
      ConfigError: a resnet is asked for and the observation is no grid, or the network is the
        user's own.
    """
    if config.is_own:
        raise ConfigError(
            f"network.kind {config.kind} is a network of priors and values, which learners of "
            "action values cannot use; take auto, mlp or resnet."
        )
    module = make_module(
        _ARCHITECTURES, config, observation, num_actions, categorical=categorical, dueling=dueling
    )

    def touch(module: QHeads, observation: Array, action: Array) -> None:
        embedding = module.represent(observation)
        module.qvalues(embedding)
        if unrolls:
            module.dynamics(embedding, action)

    def init(rng_key: PRNGKey) -> Params:
        dummy = jnp.zeros((1, *observation.shape), observation.dtype)
        return module.init(rng_key, dummy, jnp.zeros(1, jnp.int32), method=touch)

    names = {"represent": "represent", "outputs": "qvalues", "dynamics": "dynamics"}
    methods: dict[str, Any] = {
        name: functools.partial(module.apply, method=method) for name, method in names.items()
    }
    return QModel(init, **methods, support_spacing=config.support_spacing)
