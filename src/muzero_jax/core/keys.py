"""Random keys: all keys of a run are made from its seed; arrays with keys as numbers and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.core.types import PRNGKey


def run_keys(seed: int) -> tuple[PRNGKey, PRNGKey]:
    """The key of a run's training, and a separate one from which those of its evaluations come."""
    train_key, evaluation_key = jax.random.split(jax.random.key(seed))
    return train_key, evaluation_key


def evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """The key of a run's own evaluation after `num_env_steps` environment steps."""
    return _fold_in_steps(run_keys(seed)[1], num_env_steps)


def fresh_evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """The key of a later evaluation, which repeats none that a run itself makes for any seed."""
    # Splitting a key in two is folding in 0 and 1, the two branches of `run_keys`.
    return _fold_in_steps(jax.random.fold_in(jax.random.key(seed), 2), num_env_steps)


def last_evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """The key of a run's final evaluation of its last parameters, where others are averaged."""
    return _fold_in_steps(jax.random.fold_in(jax.random.key(seed), 3), num_env_steps)


def best_evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """The key of a run's evaluation of its best agent when the run ends at `num_env_steps`."""
    return _fold_in_steps(jax.random.fold_in(jax.random.key(seed), 4), num_env_steps)


def _fold_in_steps(rng_key: PRNGKey, num_env_steps: int) -> PRNGKey:
    """Folds a number of steps in, in two parts because JAX takes 32 bits at a time."""
    high, low = divmod(num_env_steps, 2**32)
    rng_key = jax.random.fold_in(rng_key, low)
    return jax.random.fold_in(rng_key, high) if high else rng_key


def is_key(x: Any) -> bool:
    """Whether an array, or the `jax.ShapeDtypeStruct` of one, holds random keys."""
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def to_numbers(x: Any) -> np.ndarray:
    """An array as numbers on the host that can be written and sent; keys become their data."""
    return np.asarray(jax.random.key_data(x) if is_key(x) else x)


def number_zeros(shape: Any) -> np.ndarray:
    """Zeros with the shape and dtype that `to_numbers` gives for an array of `shape`."""
    data = jax.eval_shape(jax.random.key_data, shape) if is_key(shape) else shape
    return np.zeros(data.shape, data.dtype)


def from_numbers(data: Any, shape: Any) -> jax.Array:
    """The inverse of `to_numbers`, on the default device; `shape` says whether it is of keys."""
    array = jnp.asarray(data)
    return jax.random.wrap_key_data(array) if is_key(shape) else array
