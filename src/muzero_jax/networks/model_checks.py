"""What a user's network must be to serve as a model: it is traced, and never run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import PyTree
from muzero_jax.networks.model import MuZeroModel

# No usual size of a network or number of actions, so that a wrong axis is not taken for the batch.
_BATCH_SIZE = 97
_OUTPUTS = {
    "represent": ("the embedding",),
    "predict": ("the policy logits", "the value logits"),
    "dynamics": ("the embedding", "the reward logits", "the continuation"),
}


def check_model(model: MuZeroModel, observation: jax.ShapeDtypeStruct, num_actions: int) -> int:
    """Refuses a model whose parameters or outputs are not what MuZero's loss and search read.

    Args:
      model: the model.
      observation: shape and dtype of one unbatched observation.
      num_actions: `A`.

    Returns:
      The number of bins of the model's value and reward logits.

    Raises:
      ConfigError: the model cannot be traced, or an output has another shape than it should have.
    """
    params = traced("init of the network", model.init, jax.eval_shape(jax.random.key, 0))
    _require_floating(params)
    observations = jax.ShapeDtypeStruct((_BATCH_SIZE, *observation.shape), observation.dtype)
    (embedding,) = _outputs("represent", model.represent, params, observations)
    _require_shape("the embedding of represent", embedding, *embedding.shape[1:])
    prior, value = _outputs("predict", model.predict, params, embedding)
    _require_shape("the policy logits of predict", prior, num_actions)
    num_bins = value.shape[-1] if value.ndim == 2 else 0
    is_support = num_bins >= 3 and num_bins % 2 == 1
    _require_shape("the value logits of predict", value, num_bins if is_support else _ODD)
    action = jax.ShapeDtypeStruct((_BATCH_SIZE,), jnp.int32)
    following, reward, continuation = _outputs(
        "dynamics", model.dynamics, params, embedding, action
    )
    _require_shape("the embedding of dynamics", following, *embedding.shape[1:])
    _require_shape("the reward logits of dynamics", reward, num_bins)
    _require_shape("the continuation of dynamics", continuation)
    if following.dtype != embedding.dtype:
        raise ConfigError(
            f"the embedding of dynamics must have the dtype of that of represent, "
            f"{embedding.dtype}, found {following.dtype}."
        )
    return int(num_bins)


def traced(what: str, function: Callable[..., PyTree], *args: PyTree) -> Any:
    """The shapes of `function(*args)`; an error becomes a `ConfigError` of one sentence."""
    with user_code.running(f"{what} cannot be traced"):
        return jax.eval_shape(function, *args)


def _require_floating(params: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ConfigError(
                f"the network's parameter {jax.tree_util.keystr(path)} must be of floating numbers "
                f"to be learned, found {leaf.dtype}."
            )


def _outputs(name: str, function: Callable[..., PyTree], *args: PyTree) -> tuple[Any, ...]:
    """The shapes of what a function of the network returns, as many as it should return."""
    found = traced(f"{name} of the network", function, *args)
    outputs = tuple(found) if isinstance(found, tuple | list) else (found,)
    are_arrays = all(isinstance(output, jax.ShapeDtypeStruct) for output in outputs)
    if not are_arrays or len(outputs) != len(_OUTPUTS[name]):
        kinds = ", ".join("array" if hasattr(x, "shape") else type(x).__name__ for x in outputs)
        raise ConfigError(
            f"{name} of the network must return {' and '.join(_OUTPUTS[name])}, each an array, "
            f"found {kinds or 'nothing'}."
        )
    return outputs


_ODD = "an odd number of bins of at least 3"


def _require_shape(what: str, found: jax.ShapeDtypeStruct, *own: int | str) -> None:
    wanted = (_BATCH_SIZE, *own)
    if found.shape != wanted:
        raise ConfigError(
            f"{what} must be {_text(wanted)}, found {_text(found.shape)}, where B is the batch."
        )


def _text(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join('B' if n == _BATCH_SIZE else str(n) for n in shape)}]"
