"""Which network serves which observations, and how a module of flax becomes a model."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen, nnx

from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, Params, PRNGKey
from muzero_jax.networks.architectures import MLPNetwork, MuZeroNetwork, ResNetNetwork
from muzero_jax.networks.model import MuZeroModel
from muzero_jax.networks.model_checks import traced
from muzero_jax.networks.settings import NetworkConfig

_ARCHITECTURES: dict[str, type[MuZeroNetwork]] = {"mlp": MLPNetwork, "resnet": ResNetNetwork}
_METHODS = ("represent", "predict", "dynamics")
ModuleT = TypeVar("ModuleT", bound=MuZeroNetwork)


def make_model(
    config: NetworkConfig,
    observation: jax.ShapeDtypeStruct,
    num_actions: int,
    *,
    num_players: int = 1,
    use_projection: bool = False,
) -> MuZeroModel:
    """Builds the model that `config` describes.

    Args:
      config: the architecture.
      observation: shape and dtype of one observation; rank 3 `[H, W, C]` is a grid.
      num_actions: `A`.
      num_players: 1, or 2 that alternate.
      use_projection: whether to build the heads of the consistency loss.

    Raises:
      ConfigError: a resnet is asked for and the observation is no grid, or the user's own network
        cannot be made.
    """
    if config.is_own:
        return _make_own_model(config, observation, num_actions, num_players)
    module = make_module(
        _ARCHITECTURES,
        config,
        observation,
        num_actions,
        num_players=num_players,
        use_projection=use_projection,
    )
    model = model_from_linen(module, observation, config.support_spacing)
    return dataclasses.replace(model, may_mask_actions=False)


def make_module(
    architectures: Mapping[str, type[ModuleT]],
    config: NetworkConfig,
    observation: jax.ShapeDtypeStruct,
    num_actions: int,
    *,
    num_players: int = 1,
    use_projection: bool = False,
    **heads: Any,
) -> ModuleT:
    """The module of this package that `config` describes.

    Args:
      architectures: the classes for `mlp` and `resnet`.
      config: the architecture.
      observation: shape and dtype of one observation.
      num_actions: `A`.
      num_players: 1, or 2 that alternate.
      use_projection: whether to build the heads of the consistency loss.
      **heads: fields of these classes beside those of `MuZeroNetwork`.

    Raises:
      ConfigError: a resnet is asked for and the observation is no grid.
    """
    is_grid = len(observation.shape) == 3
    kind = ("resnet" if is_grid else "mlp") if config.kind == "auto" else config.kind
    if kind == "resnet" and not is_grid:
        raise ConfigError(
            f"network.kind resnet needs grid observations [height, width, channels], "
            f"found shape {observation.shape}; take mlp."
        )
    names = {field.name for field in dataclasses.fields(architectures[kind])}
    return architectures[kind](
        num_actions=num_actions,
        num_bins=config.num_bins,
        continuation=-1.0 if num_players == 2 else 1.0,
        use_projection=use_projection,
        dtype=jnp.dtype(config.compute_dtype),
        **{name: value for name, value in vars(config).items() if name in names},
        **heads,
    )


def _make_own_model(
    config: NetworkConfig, observation: jax.ShapeDtypeStruct, num_actions: int, num_players: int
) -> MuZeroModel:
    """The user's own network: a module, or a `MuZeroModel`, that `network.kind` names."""
    factory = user_code.find(config.kind, "network")
    offered = {
        "num_actions": num_actions,
        "num_bins": config.num_bins,
        "num_players": num_players,
        "observation": observation,
        "settings": config,
    }
    with user_code.running(f"the network {config.kind} cannot be made"):
        if not callable(factory):
            raise ConfigError(f"the network {config.kind} must be a class or a function.")
        accepted = inspect.signature(factory).parameters
        make = functools.partial(factory, **{n: x for n, x in offered.items() if n in accepted})
        if inspect.isclass(factory) and issubclass(factory, nnx.Module):
            return model_from_nnx(lambda rngs: make(rngs=rngs), config.support_spacing)
        made = make()
    if isinstance(made, MuZeroModel):
        return made
    if isinstance(made, linen.Module):
        return model_from_linen(made, observation, config.support_spacing)
    raise ConfigError(
        f"the network {config.kind} must be a linen module, an nnx module or a MuZeroModel, found "
        f"a {type(made).__name__}."
    )


def model_from_linen(
    module: linen.Module, observation: jax.ShapeDtypeStruct, support_spacing: float = 1.0
) -> MuZeroModel:
    """Wraps a linen module that has the methods `represent`, `predict` and `dynamics`.

    Args:
      module: the module, whose parts are made in its `setup`; with methods `project` and
        `predict_projection` it also serves the consistency loss, unless its field `use_projection`
        is False.
      observation: shape and dtype of one unbatched observation.
      support_spacing: see `MuZeroModel`.

    Raises:
      ConfigError: the module lacks a method, cannot be traced, or has other variables than
        parameters.
    """
    names = _methods_of(module)

    def touch_every_parameter(module: Any, observation: Array, action: Array) -> None:
        embedding, *_ = module.dynamics(module.represent(observation), action)
        module.predict(embedding)
        if "project" in names:
            module.predict_projection(module.project(embedding))

    def init(rng_key: PRNGKey) -> Params:
        dummy = jnp.zeros((1, *observation.shape), observation.dtype)
        action = jnp.zeros(1, jnp.int32)
        return module.init(rng_key, dummy, action, method=touch_every_parameter)

    name = type(module).__name__
    variables = traced(f"the network {name}", init, jax.eval_shape(jax.random.key, 0))
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    paths = [[str(getattr(key, "key", key)) for key in path] for path, _ in leaves]
    other = [(f"of the collection {path[0]}", path[1:]) for path in paths if path[0] != "params"]
    _refuse_state(name, other)
    methods: dict[str, Any] = {n: functools.partial(module.apply, method=n) for n in names}
    return MuZeroModel(init, **methods, support_spacing=support_spacing)


def model_from_nnx(
    make_module: Callable[[nnx.Rngs], Any], support_spacing: float = 1.0
) -> MuZeroModel:
    """Wraps an nnx module like `model_from_linen`: split once, merged inside each pure function.

    The module is made by `make_module` from its random streams, in a trace.

    Raises:
      ConfigError: the module lacks a method, cannot be traced, or has other variables than
        parameters.
    """
    with user_code.running("the network cannot be traced"):
        abstract = nnx.eval_shape(lambda: make_module(nnx.Rngs(0)))
    names = _methods_of(abstract)
    graph, state = nnx.split(abstract)
    kinds = [(path, getattr(x, "type", type(x))) for path, x in nnx.to_flat_state(state)]
    other = [(f"of the type {k.__name__}", p) for p, k in kinds if not issubclass(k, nnx.Param)]
    _refuse_state(type(abstract).__name__, other)

    def init(rng_key: PRNGKey) -> Params:
        return nnx.split(make_module(nnx.Rngs(rng_key)))[1]

    def call(name: str, params: Params, *inputs: Array) -> Any:
        return getattr(nnx.merge(graph, params), name)(*inputs)

    methods: dict[str, Any] = {name: functools.partial(call, name) for name in names}
    return MuZeroModel(init, **methods, support_spacing=support_spacing)


def _methods_of(module: Any) -> tuple[str, ...]:
    """The functions of a model that a module has; MuZero's three are required."""
    missing = [name for name in _METHODS if not callable(getattr(module, name, None))]
    if missing:
        raise ConfigError(
            f"the network {type(module).__name__} has no method {' and no method '.join(missing)}; "
            "it needs represent(observation), predict(embedding) and dynamics(embedding, action)."
        )
    has_projection = hasattr(module, "project") and getattr(module, "use_projection", True)
    return (*_METHODS, "project", "predict_projection") if has_projection else _METHODS


def _refuse_state(name: str, other: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Refuses variables that are no parameters, each with its kind and its path."""
    for kind, path in other:
        raise ConfigError(
            f"the network {name} has variables {kind}, in {'.'.join(map(str, path[:-1])) or name}, "
            "which would be trained as if they were parameters; a network may hold parameters "
            "only: use LayerNorm or GroupNorm in the place of BatchNorm, and no dropout."
        )
