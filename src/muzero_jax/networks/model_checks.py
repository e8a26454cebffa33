"""What a model's outputs must be, checked from shapes alone before anything is run."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import PyTree
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.networks.module_checks import shapes_of

# No usual size of a network or number of actions, so that a wrong axis is not taken for the batch.
_BATCH_SIZE = 97


def check_model(model: MuZeroModel, observation: jax.ShapeDtypeStruct, num_actions: int) -> int:
    """Refuses a model whose parameters or outputs are not what MuZero's loss and search read.

    Args:
      model: is traced, not run.
      observation: shape and dtype of one unbatched observation.
      num_actions: `A`.

    Returns:
      The number of bins of the model's value and reward logits.

    Raises:
      ConfigError: the model cannot be traced, or an output has another shape than it should have;
        with both shapes.
    """
    params = shapes_of("init of the network", model.init, jax.eval_shape(jax.random.key, 0))
    _require_floating(params)
    observations = jax.ShapeDtypeStruct((_BATCH_SIZE, *observation.shape), observation.dtype)
    embedding = shapes_of("represent of the network", model.represent, params, observations)
    own_shape = _shape(embedding)[1:]
    if _shape(embedding)[:1] != (_BATCH_SIZE,):
        _refuse_shape("the embedding of represent", embedding, "[B, ...]")
    prior, value = _parts(
        "predict", shapes_of("predict of the network", model.predict, params, embedding)
    )
    _require_shape("the policy logits of predict", prior, (num_actions,))
    num_bins = _num_bins(value)
    action = jax.ShapeDtypeStruct((_BATCH_SIZE,), jnp.int32)
    next_embedding, reward, continuation = _parts(
        "dynamics", shapes_of("dynamics of the network", model.dynamics, params, embedding, action)
    )
    _require_shape("the embedding of dynamics", next_embedding, own_shape)
    _require_shape("the reward logits of dynamics", reward, (num_bins,))
    _require_shape("the continuation of dynamics", continuation, ())
    if next_embedding.dtype != embedding.dtype:
        raise ConfigError(
            f"the embedding of dynamics must have the dtype of that of represent, "
            f"{embedding.dtype}, found {next_embedding.dtype}."
        )
    return num_bins


def _require_floating(params: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ConfigError(
                f"the network's parameter {jax.tree_util.keystr(path)} must be of floating numbers "
                f"to be learned, found {leaf.dtype}."
            )


def _num_bins(value: Any) -> int:
    batch_size, num_bins = shape if len(shape := _shape(value)) == 2 else (0, 0)
    if batch_size != _BATCH_SIZE or num_bins < 3 or num_bins % 2 == 0:
        wanted = "[B, bins] with an odd number of bins of at least 3"
        _refuse_shape("the value logits of predict", value, wanted)
    return num_bins


_PARTS = {
    "predict": ("policy logits", "value logits"),
    "dynamics": ("the next embedding", "reward logits", "the continuation"),
}


def _parts(method: str, output: Any) -> tuple[Any, ...]:
    wanted = _PARTS[method]
    if isinstance(output, tuple | list) and len(output) == len(wanted):
        return tuple(output)
    of = f" of {len(output)}" if isinstance(output, tuple | list) else ""
    raise ConfigError(
        f"{method} of the network must return {', '.join(wanted[:-1])} and {wanted[-1]}, found a "
        f"{type(output).__name__}{of}."
    )


def _require_shape(what: str, found: Any, own: tuple[int, ...]) -> None:
    if _shape(found) != (_BATCH_SIZE, *own):
        _refuse_shape(what, found, _text((_BATCH_SIZE, *own)))


def _refuse_shape(what: str, found: Any, wanted: str) -> None:
    told = _text(_shape(found)) if hasattr(found, "shape") else f"a {type(found).__name__}"
    raise ConfigError(f"{what} must be {wanted}, found {told}, where B is the batch.")


def _shape(found: Any) -> tuple[int, ...]:
    """The shape of an array; that of a scalar for what is no array."""
    return tuple(getattr(found, "shape", ()))


def _text(shape: Iterable[int]) -> str:
    return f"[{', '.join('B' if n == _BATCH_SIZE else str(n) for n in shape)}]"
