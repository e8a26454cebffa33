"""How the metrics of many steps or updates become the metrics of one chunk."""

from collections.abc import Iterable
from typing import TypeAlias

import jax.numpy as jnp

from muzero_jax.agents.base import LARGEST_SUFFIX
from muzero_jax.core.types import Array, Metrics

Sums: TypeAlias = dict[str, tuple[Metrics, Array]]
"""Gathered metrics of each kind of work, with the number of values that each was gathered from."""


def is_largest(name: str) -> bool:
    """Whether the largest of a metric's values is kept, and not their mean."""
    return name.endswith(LARGEST_SUFFIX)


def gather(metrics: Metrics) -> Metrics:
    """Metrics of `[N]` values to `[]`: the sum of each, or the largest where its name says so."""
    return {n: x.max(axis=0) if is_largest(n) else x.sum(axis=0) for n, x in metrics.items()}


def nothing_gathered(names: Iterable[str]) -> Metrics:
    """What `gather` gives for no values at all: it changes nothing when it is gathered again."""
    return {name: jnp.float32(-jnp.inf if is_largest(name) else 0.0) for name in names}


def chunk_metrics(gathered: Metrics, count: Array) -> Metrics:
    """The means, or largest values, of `[]` gathered metrics of `count` values; NaN for none."""
    return {
        name: jnp.where(count > 0, x, jnp.nan) if is_largest(name) else x / count
        for name, x in gathered.items()
    }
