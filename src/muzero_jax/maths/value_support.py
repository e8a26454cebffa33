"""The invertible value transform and the categorical support that values and rewards live on.

MuZero (arXiv 1911.08265, appendix F) squashes scalars by h (Pohlen et al. 2018, arXiv 1805.11593,
proposition A.2) and spreads them over two neighbouring atoms of the support ("two-hot"). In the
paper the atoms are the integers; here they may lie closer, because a cross-entropy with one atom a
unit cannot rank actions whose values differ by hundredths.
"""

import jax
import jax.numpy as jnp

from muzero_jax.core.types import Array

EPSILON = 1e-3


def signed_hyperbolic(x: Array) -> Array:
    """`h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x`, elementwise.

    It is written as a multiple of `x`: nothing cancels near 0, and the gradient there is right.
    """
    return x / (jnp.sqrt(jnp.abs(x) + 1.0) + 1.0) + EPSILON * x


def signed_parabolic(x: Array) -> Array:
    """The inverse of `signed_hyperbolic`, elementwise.

    The textbook form subtracts nearly equal numbers and is wrong by 1.5e-4 near 0 in float32. Here
    `|y| = z^2 - 1` with `z = sqrt(|y| + 1) = 2 s / (1 + root)`, `s = |x| + 1 + eps` and
    `root = sqrt(1 + 4 eps s)`; `z - 1` is written as a multiple of `|x|`, and nothing cancels.
    """
    magnitude = jnp.abs(x)
    root = jnp.sqrt(1.0 + 4.0 * EPSILON * (magnitude + 1.0 + EPSILON))
    slope = 2.0 - 4.0 * EPSILON / (1.0 + 2.0 * EPSILON + root)
    factor = slope / (1.0 + root)
    return x * factor * (magnitude * factor + 2.0)


def two_hot(x: Array, support_size: int) -> Array:
    """Spreads `[...]` numbers over their two neighbours among the integers `-S..S`, the support.

    Returns `[..., 2 S + 1]` probabilities whose mean is `x`, clipped to the support's edges.
    """
    x = jnp.clip(x, -support_size, support_size)[..., None]
    atoms = jnp.arange(-support_size, support_size + 1, dtype=jnp.float32)
    atoms = atoms.reshape((1,) * (x.ndim - 1) + atoms.shape)
    return jnp.maximum(0.0, 1.0 - jnp.abs(x - atoms))


def gaussian_labels(x: Array, support_size: int, width: float) -> Array:
    """Spreads `[...]` numbers over the integers `-S..S` by a normal density around them.

    HL-Gauss (Farebrother et al. 2024, arXiv 2403.03950, section 3.1) gives an atom the probability
    of an interval around it. The density at the atom, normalised, has the same shape without an
    error function, whose price is a tenth of an update; its mean is the number up to
    `4 pi width^2 exp(-2 pi^2 width^2)` atoms (1e-4 for 0.75).

    Args:
      x: numbers, which are clipped to the support's edges.
      support_size: half-width S.
      width: standard deviation of the labels, in atoms.
    """
    x = jnp.clip(x, -support_size, support_size)[..., None]
    atoms = jnp.arange(-support_size, support_size + 1, dtype=jnp.float32)
    atoms = atoms.reshape((1,) * (x.ndim - 1) + atoms.shape)
    return jax.nn.softmax(-0.5 * jnp.square((atoms - x) / width), axis=-1)


def scalar_to_support(
    x: Array, support_size: int, spacing: float = 1.0, width: float = 0.0
) -> Array:
    """Converts `[...]` scalars to `[..., 2 S + 1]` target probabilities, which are transformed.

    Args:
      x: scalars.
      support_size: half-width S, in atoms.
      spacing: distance of neighbouring atoms, in units of the transformed scalar.
      width: standard deviation of the labels in atoms; 0 for two-hot labels.
    """
    atom = signed_hyperbolic(x) / spacing
    return gaussian_labels(atom, support_size, width) if width else two_hot(atom, support_size)


def is_beyond_support(x: Array, support_size: int, spacing: float = 1.0) -> Array:
    """Whether `scalar_to_support` clips each of `[...]` scalars to an edge of the support.

    A scalar that lies on the edge, to rounding, is not beyond it.

    Args:
      x: scalars.
      support_size: half-width S, in atoms.
      spacing: distance of neighbouring atoms, in units of the transformed scalar.
    """
    return jnp.abs(signed_hyperbolic(x)) / spacing > support_size * (1.0 + 1e-5)


def support_to_scalar(logits: Array, spacing: float = 1.0) -> Array:
    """Converts `[..., 2 S + 1]` logits to `[...]` scalars: the mean, transformed back.

    Symmetric logits, such as a fresh network's, give exactly 0. Otherwise a search that scales its
    values by their range would make decisions of rounding errors.
    """
    support_size = (logits.shape[-1] - 1) // 2
    atoms = jnp.arange(-support_size, support_size + 1, dtype=jnp.float32)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    odd_part = 0.5 * (probabilities - probabilities[..., ::-1])
    # An accelerator's default matrix product rounds to TF32 or bfloat16.
    mean = jnp.dot(odd_part, atoms, precision=jax.lax.Precision.HIGHEST)
    return signed_parabolic(spacing * mean)
