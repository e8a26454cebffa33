"""Arrays as numbers that can be written and sent: random keys are their data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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
    """
    array = jnp.asarray(data)
    return jax.random.wrap_key_data(array) if is_key(shape) else array
