"""Which architecture serves which observations."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.config import ConfigError, NetworkConfig
from muzero_jax.networks.mlp import MLPNetwork
from muzero_jax.networks.model import MuZeroModel, model_from_linen
from muzero_jax.networks.resnet import ResNetNetwork


def make_model(
    config: NetworkConfig,
    observation: jax.ShapeDtypeStruct,
    num_actions: int,
    *,
    use_projection: bool = False,
) -> MuZeroModel:
    """Builds the model that `config` describes.

    Args:
      config: the architecture.
      observation: shape and dtype of one observation; rank 3 `[H, W, C]` is a grid.
      num_actions: `A`.
      use_projection: build the heads of the consistency loss.

    Raises:
      ConfigError: a resnet is asked for and the observation is no grid.
    """
    rank = len(observation.shape)
    kind = config.kind
    if kind == "auto":
        kind = "resnet" if rank == 3 else "mlp"
    if kind == "resnet" and rank != 3:
        raise ConfigError(
            f"network.kind resnet needs grid observations [height, width, channels], "
            f"found shape {observation.shape}; take mlp."
        )
    num_bins = 2 * config.support_size + 1
    dtype = jnp.dtype(config.compute_dtype)
    shared: dict[str, Any] = {"num_actions": num_actions, "num_bins": num_bins, "dtype": dtype}
    shared["use_projection"] = use_projection
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
