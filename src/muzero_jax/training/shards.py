"""What the shards of a data-parallel run do together: the only places where they communicate."""

import dataclasses
from collections.abc import Callable

import jax
from jax.flatten_util import ravel_pytree

from muzero_jax.core.types import PRNGKey, PyTree


@dataclasses.dataclass(frozen=True)
class Shards:
    """The shards of a run, as one of them sees them.

    Attributes:
      num_shards: how many there are.
      axes: names of the mapped axes that they lie along; none for one shard.
    """

    num_shards: int = 1
    axes: tuple[str, ...] = ()

    def average(self, tree: PyTree) -> PyTree:
        """The mean over the shards of a pytree of arrays, in one collective."""
        if not self.axes:
            return tree
        vector, restore = ravel_pytree(tree)
        return restore(jax.lax.pmean(vector, self.axes))

    def total(self, tree: PyTree) -> PyTree:
        """The sum over the shards of a pytree of arrays."""
        return jax.lax.psum(tree, self.axes) if self.axes else tree

    def maximum(self, tree: PyTree) -> PyTree:
        """The elementwise maximum over the shards of a pytree of arrays."""
        return jax.lax.pmax(tree, self.axes) if self.axes else tree

    def eval_shape(self, function: Callable[..., PyTree], *args: PyTree) -> PyTree:
        """`jax.eval_shape` of what one shard does, outside of the mapped axes."""
        for axis in self.axes:
            function = jax.vmap(function, in_axes=None, axis_name=axis, axis_size=1)
        shapes = jax.eval_shape(function, *args)
        depth = len(self.axes)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[depth:], x.dtype), shapes)

    def own_key(self, rng_key: PRNGKey) -> PRNGKey:
        """A key that no other shard has; the key itself where there is one shard."""
        if not self.axes:
            return rng_key
        return jax.random.fold_in(rng_key, jax.lax.axis_index(self.axes))


ONE_SHARD = Shards()
