"""Which architecture serves which observations."""

import dataclasses
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError
from muzero_jax.networks.mlp import MLPNetwork
from muzero_jax.networks.model import MuZeroModel, model_from_linen, model_from_nnx
from muzero_jax.networks.resnet import ResNetNetwork
from muzero_jax.networks.settings import NetworkConfig


def make_model(
    config: NetworkConfig,
    observation: jax.ShapeDtypeStruct,
    num_actions: int,
    *,
    num_players: int = 1,
    use_projection: bool = False,
) -> MuZeroModel:
    """Builds the model that `config` describes.

    Args:
      config: the architecture.
      observation: shape and dtype of one observation; rank 3 `[H, W, C]` is a grid.
      num_actions: `A`.
      num_players: 1, or 2 that alternate.
      use_projection: whether to build the heads of the consistency loss.

    Raises:
      ConfigError: a resnet is asked for and the observation is no grid, or the user's own network
        cannot be made.
    """
    if config.is_own:
        return _make_own_model(config, observation, num_actions, num_players)
    rank = len(observation.shape)
    kind = config.kind
    if kind == "auto":
        kind = "resnet" if rank == 3 else "mlp"
    if kind == "resnet" and rank != 3:
        raise ConfigError(
            f"network.kind resnet needs grid observations [height, width, channels], "
            f"found shape {observation.shape}; take mlp."
        )
    shared: dict[str, Any] = {
        "num_actions": num_actions,
        "num_bins": config.num_bins,
        "continuation": -1.0 if num_players == 2 else 1.0,
        "use_projection": use_projection,
        "dtype": jnp.dtype(config.compute_dtype),
    }
    if kind == "mlp":
        module: MLPNetwork | ResNetNetwork = MLPNetwork(
            embedding_size=config.embedding_size,
            hidden_sizes=config.hidden_sizes,
            stem_channels=config.stem_channels,
            **shared,
        )
    else:
        module = ResNetNetwork(
            num_channels=config.num_channels,
            num_blocks=config.num_blocks,
            downsample=config.downsample,
            head_hidden_size=config.head_hidden_size,
            **shared,
        )
    model = model_from_linen(module, observation, config.support_spacing)
    return dataclasses.replace(model, may_mask_actions=False)


def _make_own_model(
    config: NetworkConfig, observation: jax.ShapeDtypeStruct, num_actions: int, num_players: int
) -> MuZeroModel:
    """The user's own network: a module, or a `MuZeroModel`, that `network.kind` names."""
    factory = user_code.find(config.kind, "network")
    offered = {
        "num_actions": num_actions,
        "num_bins": config.num_bins,
        "num_players": num_players,
        "observation": observation,
        "settings": config,
    }
    with user_code.running(f"the network {config.kind} cannot be made"):
        if not callable(factory):
            raise ConfigError(f"the network {config.kind} must be a class or a function.")
        accepted = inspect.signature(factory).parameters
        arguments = {name: value for name, value in offered.items() if name in accepted}
        if inspect.isclass(factory) and issubclass(factory, nnx.Module):
            make_module: Any = functools.partial(factory, **arguments)
            return model_from_nnx(lambda rngs: make_module(rngs=rngs), config.support_spacing)
        made = factory(**arguments)
    if isinstance(made, MuZeroModel):
        return made
    if isinstance(made, linen.Module):
        return model_from_linen(made, observation, config.support_spacing)
    raise ConfigError(
        f"the network {config.kind} must be a linen module, an nnx module or a MuZeroModel, found "
        f"a {type(made).__name__}."
    )
