"""Arrays as numbers that can be written and sent: random keys are their data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.config import ConfigError


def is_key(x: Any) -> bool:
    """Whether an array, or its shape, is of random keys."""
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def to_plain(x: Any) -> np.ndarray:
    """An array as numbers on the host."""
    return np.asarray(jax.random.key_data(x) if is_key(x) else x)


def plain_zeros(shape: Any) -> np.ndarray:
    """Numbers of the shape and dtype that `to_plain` gives for an array of `shape`."""
    data = jax.eval_shape(jax.random.key_data, shape) if is_key(shape) else shape
    return np.zeros(data.shape, data.dtype)


def from_plain(data: Any, shape: Any) -> jax.Array:
    """The inverse of `to_plain`, on the default device.

    Args:
      data: the numbers.
      shape: of the array, or the array itself: says whether it is of keys.

    Raises:
      ConfigError: the keys were made by another generator than the one that JAX uses here.
    """
    array = jnp.asarray(data)
    if not is_key(shape):
        return array
    if array.shape[-1:] != plain_zeros(shape).shape[-1:]:
        raise ConfigError(
            "the saved random keys are not of the generator that JAX uses here, "
            f"{jax.config.values['jax_default_prng_impl']}; set JAX_DEFAULT_PRNG_IMPL as it was "
            "when they were saved."
        )
    return jax.random.wrap_key_data(array)
