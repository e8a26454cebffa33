"""From a name to an environment, without importing a suite that the name does not need."""

import contextlib
import difflib
import functools
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError
from muzero_jax.envs.base import Environment
from muzero_jax.envs.catch import Catch
from muzero_jax.envs.errors import EnvironmentCreationError, UnknownEnvironmentError
from muzero_jax.envs.gymnax_adapter import GYMNAX_NAMES, make_gymnax
from muzero_jax.envs.pgx_adapter import PGX_NAMES, make_pgx
from muzero_jax.envs.probes import PROBES
from muzero_jax.envs.tic_tac_toe import TicTacToe
from muzero_jax.envs.traces import check_spec

_Factory = Callable[..., Environment]

# Finite processes stand on a higher floor; their evaluations are compared with the exact answers.
_FINITE_PROCESSES = ("maze", "line", "chain", "deep_sea", "random_mdp")
_PROCESS_FACTORIES = "muzero_jax.tabular.processes.environments"
_PROCESS_OBSERVERS = ("muzero_jax.tabular.exact_evaluation:ExactEvaluation",)

_BUILT_INS: Mapping[str, _Factory] = {
    "catch": Catch,
    "tic_tac_toe": TicTacToe,
    **{f"probe_{factory.__name__}": factory for factory in PROBES},
}
_SUITES: Mapping[str, tuple[_Factory, tuple[str, ...]]] = {
    "gymnax": (make_gymnax, GYMNAX_NAMES),
    "pgx": (make_pgx, PGX_NAMES),
}
_KNOWN = {*_BUILT_INS, *_FINITE_PROCESSES, *GYMNAX_NAMES, *PGX_NAMES}

# First words of the names of suites that are not supported.
_UNSUPPORTED = frozenset(
    (
        *("ale", "ale_py", "atari", "brax", "craftax", "dm_control", "envpool", "gym", "gymnasium"),
        *("jaxmarl", "jumanji", "kinetix", "minigrid", "mujoco", "mujoco_playground", "navix"),
        *("open_spiel", "pettingzoo", "procgen", "xland", "xminigrid"),
    )
)


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
      EnvironmentCreationError: a suite, an option or a factory is missing or fails, or the
        description of the environment is wrong; the message says which.
    """
    bare, named_options = _split(name)
    try:
        env = _call(_factory_of(bare), options | named_options)
        check_spec(getattr(env, "spec", None))
    except KeyboardInterrupt:
        raise
    except UnknownEnvironmentError as error:
        if error.__cause__ is not None:  # The factory has asked for an environment in its turn.
            raise EnvironmentCreationError(f"{bare} cannot be made: {error}") from error
        raise UnknownEnvironmentError(f"Unknown environment {bare!r}{_suggest(bare)}") from error
    except BaseException as error:  # The code of the user may try to end the program.
        reason = str(error) if isinstance(error, ConfigError) else user_code.describe_error(error)
        raise EnvironmentCreationError(f"{bare} cannot be made: {reason}") from error
    return env


def observers_of(name: str) -> tuple[str, ...]:
    """The observers of an environment's evaluations, as `module:factory`.

    The name is one that `make_environment` takes.
    """
    return _PROCESS_OBSERVERS if _split(name)[0] in _FINITE_PROCESSES else ()


def list_environments() -> dict[str, list[str]]:
    """Returns the names by suite, "built-in" first, for the suites that are installed."""
    installed = {
        suite: sorted(names)
        for suite, (_, names) in _SUITES.items()
        if importlib.util.find_spec(suite) is not None
    }
    return {"built-in": [*_BUILT_INS, *_FINITE_PROCESSES], **installed}


def _split(name: str) -> tuple[str, dict[str, Any]]:
    """`NAME:OPTION=VALUE:...` to name and options; values are numbers, true, false or text."""
    parts = name.split(":")
    bare = [part for part in parts if "=" not in part]
    pairs = [part.partition("=") for part in parts if "=" in part]
    # A module of the user may have the name of an environment.
    num_parts = 1 if bare and bare[0] in _KNOWN and not user_code.locate(bare[0]) else 2
    wrong = [
        f"{option}={text}" for option, _, text in pairs if not (option.isidentifier() and text)
    ]
    if wrong := bare[num_parts:] + wrong:
        raise EnvironmentCreationError(
            f"{name}: {wrong[0]!r} is no option; an option is written OPTION=VALUE."
        )
    options = {option: _read_value(text) for option, _, text in pairs}
    if len(options) < len(pairs):
        raise EnvironmentCreationError(f"{name}: an option is given twice.")
    return ":".join(bare), options


def _read_value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def _factory_of(bare: str) -> _Factory:
    """The factory that a name without options stands for.

    Raises:
      UnknownEnvironmentError: the name stands for none.
      ConfigError: the name belongs to a suite that is not supported, or to a module of the user's
        that does not exist, fails, or does not hold it.
    """
    if bare in _BUILT_INS:
        return _BUILT_INS[bare]
    if bare in _FINITE_PROCESSES:
        return user_code.load_reference(f"{_PROCESS_FACTORIES}:{bare}")
    source, _, rest = bare.rpartition(":")
    for suite, (make, names) in _SUITES.items():
        if source == suite or bare in names:
            return functools.partial(make, rest)
    word = re.split(r"[:/.-]", bare)[0]
    if word.lower() in _UNSUPPORTED and user_code.folder_of(word) is None:
        raise EnvironmentCreationError(
            f"it belongs to the suite {word.lower()}, which is not supported, unlike "
            f"{' and '.join(_SUITES)}{_suggest(rest, cutoff=1.0)}"
        )
    if not source or source.lower() in _SUITES:
        raise UnknownEnvironmentError
    return user_code.find(bare, "environment")


def _suggest(name: str, cutoff: float = 0.5) -> str:
    """Returns the end of the sentence: what the user may have meant, at least so similar."""
    known = sorted(_KNOWN)
    if name.lower().startswith(tuple(_SUITES)):
        known = [f"{suite}:{n}" for suite, (_, names) in _SUITES.items() for n in names]
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=4, cutoff=cutoff)
    if not close:
        return "; `muzero list` names them all, and MODULE:FACTORY makes your own."
    meant = [match for match in close if match == name.lower()] or close
    return f"; did you mean {' or '.join(by_lower_case[match] for match in meant)}?"


def _call(factory: _Factory, options: Mapping[str, Any]) -> Environment:
    """Calls `factory(**options)`, telling options that it does not take from its own errors."""
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = ", ".join(p for p in signature.parameters if p != "name") or "none"
        raise EnvironmentCreationError(f"{error}; it takes: {accepted}.") from error
    return factory(**options)
