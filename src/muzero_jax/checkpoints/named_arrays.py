"""The arrays of a pytree by unique names, in which form they are written and compared."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.core.keys import from_numbers, is_key, number_zeros, to_numbers
from muzero_jax.core.types import PyTree


def _leaves(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """The leaves by unique names; orbax has rules of its own for nested containers.

    Arrays without elements are left out, because orbax refuses them.
    """
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        if leaf.size:
            yield f"{index:04d}.{jax.tree_util.keystr(path, simple=True, separator='.')}", leaf


def named_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """The arrays of a pytree by name, as numbers on the host."""
    return {name: to_numbers(leaf) for name, leaf in _leaves(tree)}


def named_shapes(tree: PyTree) -> dict[str, np.ndarray]:
    """Zeros of the shapes and dtypes to restore, by name, so that orbax restores to the host."""
    return {name: number_zeros(leaf) for name, leaf in _leaves(tree)}


def from_named(named: Mapping[str, np.ndarray], tree: PyTree) -> PyTree:
    """Puts restored arrays back into the structure of `tree`, on the default device."""
    restored = iter([named[name] for name, _ in _leaves(tree)])
    return jax.tree.map(
        lambda x: from_numbers(next(restored), x) if x.size else jnp.zeros(x.shape, x.dtype), tree
    )


def digest_arrays(tree: PyTree) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for name, leaf in _leaves(tree):
        digest.update(f"{name} {leaf.dtype} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(to_numbers(leaf)).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def describe_arrays(tree: PyTree) -> dict[str, str]:
    """Dtype and shape of each array of a pytree or of its shapes, such as `float32[8, 4]`."""
    return {name: f"{x.dtype.name}{list(x.shape)}" for name, x in named_shapes(tree).items()}


def first_difference(saved: Mapping[str, str], tree: PyTree) -> str:
    """Says which array is the first that differs from what is needed; empty if none does.

    Args:
      saved: descriptions of the saved arrays by name, from `describe_arrays`.
      tree: arrays that are needed, or their shapes.
    """
    wanted = describe_arrays(tree)
    if saved == wanted:
        return ""
    own = {_bare_name(name): text for name, text in saved.items()}
    needed = {_bare_name(name): text for name, text in wanted.items()}
    names = [name for name in [*needed, *own] if own.get(name) != needed.get(name)]
    if not names:
        return "the same arrays stand in another order"
    first = names[0]
    told = f"{own.get(first, 'nothing')}, and {needed.get(first, 'nothing')} is needed"
    if first in {_bare_name(name) for name, leaf in _leaves(tree) if is_key(leaf)}:
        told += " (random keys of another generator; set JAX_DEFAULT_PRNG_IMPL as it was then)"
    return f"{first} was saved as {told}"


def _bare_name(name: str) -> str:
    """The name of a leaf without its number."""
    return name.partition(".")[2]
