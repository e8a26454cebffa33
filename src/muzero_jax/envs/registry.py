"""From a name to an environment, without importing a suite that the name does not need."""

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from muzero_jax.core import user_code
from muzero_jax.envs.base import Environment, EnvironmentSpec
from muzero_jax.envs.conformance.traces import check_spec
from muzero_jax.envs.errors import (
    EnvironmentCreationError,
    UnknownEnvironmentError,
    creating,
)
from muzero_jax.envs.gymnax_adapter import GYMNAX_NAMES, make_gymnax
from muzero_jax.envs.names import check_name
from muzero_jax.envs.pgx_adapter import PGX_NAMES, make_pgx


@dataclasses.dataclass(frozen=True)
class _BuiltIn:
    """A built-in environment.

    Attributes:
      factory: what makes it, as `module:function`.
      observers: what else an evaluation measures there, see `training.evaluation.Observer`.
    """

    factory: str
    observers: tuple[str, ...] = ()


def _finite_process(name: str) -> _BuiltIn:
    """A finite process, whose evaluations are compared with the exact answers."""
    return _BuiltIn(
        f"muzero_jax.tabular.processes.environments:{name}",
        observers=("muzero_jax.tabular.exact_evaluation:ExactEvaluation",),
    )


_BUILT_INS: Mapping[str, _BuiltIn] = {
    "catch": _BuiltIn("muzero_jax.envs.catch:Catch"),
    "tic_tac_toe": _BuiltIn("muzero_jax.envs.tic_tac_toe:TicTacToe"),
    **{name: _finite_process(name) for name in ("maze", "line", "chain", "deep_sea", "random_mdp")},
    **{
        f"probe_{name}": _BuiltIn(f"muzero_jax.envs.probes:{name}")
        for name in (
            "constant_reward",
            "observation_reward",
            "delayed_reward",
            "action_reward",
            "action_and_observation_reward",
        )
    },
}


@dataclasses.dataclass(frozen=True)
class _Suite:
    """The names that a suite is known to have, and how to make one of them."""

    names: tuple[str, ...]
    make: Callable[..., Environment]


_SUITES: Mapping[str, _Suite] = {
    "gymnax": _Suite(GYMNAX_NAMES, make_gymnax),
    "pgx": _Suite(PGX_NAMES, make_pgx),
}


def make_environment(name: str, **options: Any) -> Environment:
    """Makes the environment called `name`.

    Args:
      name: one of
        a built-in name, for example `catch`;
        `SUITE:NAME`, for example `gymnax:CartPole-v1` or `pgx:go_9x9`;
        the bare name in a suite where no built-in has it, for example `CartPole-v1`;
        `MODULE:FACTORY`, for example `my_maze:make`: a callable that returns an environment, in a
        module that can be imported here or from the working directory.
        Any of them may be followed by options, as in `deep_sea:size=20:stochastic=true`.
      **options: keyword arguments of the environment's factory, before those in the name.

    Returns:
      An environment that does not reset by itself, see `AutoReset`.

    Raises:
      UnknownEnvironmentError: nothing answers to the name; the message lists close matches.
      EnvironmentCreationError: a suite, an option, a factory or a member of the protocol is
        missing; the message says which.
    """
    check_name(name, _BUILT_INS, {suite: known.names for suite, known in _SUITES.items()})
    name, named_options = _split_options(name)
    options |= named_options
    if name in _BUILT_INS:
        return _make_built_in(name, options)
    suite_name, _, bare_name = name.rpartition(":")
    if suite_name in _SUITES:
        return _make_from_suite(suite_name, bare_name, options)
    if suite_name:
        return _make_custom(suite_name, bare_name, options)
    for known_suite, suite in _SUITES.items():
        if name in suite.names:
            return _make_from_suite(known_suite, name, options)
    raise UnknownEnvironmentError(f"Unknown environment {name!r}{_suggest(name)}")


def _split_options(name: str) -> tuple[str, dict[str, Any]]:
    """`NAME:OPTION=VALUE:...` to name and options; values are numbers, true, false or text."""
    parts = name.split(":")
    pairs = [part.partition("=") for part in parts if "=" in part]
    options = {option: _read_value(value) for option, _, value in pairs}
    return ":".join(part for part in parts if "=" not in part), options


def _read_value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def observers_of(name: str) -> tuple[str, ...]:
    """The observers of an environment's evaluations, as `module:factory`.

    Args:
      name: a name as `make_environment` takes it.
    """
    known = _BUILT_INS.get(_split_options(name)[0])
    return () if known is None else known.observers


def list_environments() -> dict[str, list[str]]:
    """Returns the names by suite, "built-in" first, for the suites that are installed."""
    installed = {
        suite_name: sorted(suite.names)
        for suite_name, suite in _SUITES.items()
        if importlib.util.find_spec(suite_name) is not None
    }
    return {"built-in": list(_BUILT_INS), **installed}


def _make_built_in(name: str, options: dict[str, Any]) -> Environment:
    with creating(name):
        env = _call(user_code.load_reference(_BUILT_INS[name].factory), name, options)
        check_spec(env.spec)
    return env


def _make_from_suite(suite_name: str, bare_name: str, options: dict[str, Any]) -> Environment:
    full_name = f"{suite_name}:{bare_name}"
    if "name" in options:
        raise EnvironmentCreationError(f"{full_name}: name is not an option.")
    try:
        return _call(_SUITES[suite_name].make, full_name, {"name": bare_name, **options})
    except UnknownEnvironmentError as error:
        raise UnknownEnvironmentError(
            f"Unknown environment {full_name!r}{_suggest(bare_name)}"
        ) from error


def _suggest(name: str) -> str:
    """Returns the end of the sentence: what the user may have meant."""
    known = [*_BUILT_INS, *(n for suite in _SUITES.values() for n in suite.names)]
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    close = [name.lower()] if name.lower() in by_lower_case else []
    close = close or difflib.get_close_matches(name.lower(), by_lower_case, n=4, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(by_lower_case[match] for match in close)}?"
    return "; `muzero list` names them all, and MODULE:FACTORY makes your own."


def _call(factory: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Environment:
    """Calls `factory(**options)`, telling options that it does not take from its own errors."""
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = ", ".join(p for p in signature.parameters if p != "name") or "none"
        raise EnvironmentCreationError(
            f"{name} cannot be made with these options ({error}); it takes: {accepted}."
        ) from error
    return factory(**options)


def _make_custom(module_name: str, factory_name: str, options: dict[str, Any]) -> Environment:
    full_name = f"{module_name}:{factory_name}"
    module = user_code.import_module(module_name)
    if module is None:
        looked_in = ", ".join(map(str, user_code.search_folders()))
        raise UnknownEnvironmentError(
            f"There is no module {module_name!r}, neither installed nor in {looked_in}, and the "
            f"known suites are {', '.join(_SUITES)}."
        )
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise EnvironmentCreationError(
            f"{full_name}: the module {module_name!r} has no callable {factory_name!r}."
        )
    with user_code.running(f"{full_name} cannot be made"):
        env = _call(factory, full_name, options)
        return _check_members(full_name, env)


def _check_members(full_name: str, env: Any) -> Environment:
    """Makes sure that what a factory has returned has the members of the protocol."""
    missing = [member for member in ("reset", "step") if not callable(getattr(env, member, None))]
    if not isinstance(getattr(env, "spec", None), EnvironmentSpec):
        missing.insert(0, "spec (an EnvironmentSpec)")
    if missing:
        raise EnvironmentCreationError(
            f"{full_name} returned {type(env).__name__}, which is no Environment: it lacks "
            f"{', '.join(missing)}."
        )
    return cast(Environment, env)
