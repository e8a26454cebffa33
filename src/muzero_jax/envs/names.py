"""Checks an environment's name before anything is imported for it."""

import re
from collections.abc import Collection, Mapping

from muzero_jax.core.user_code import locate
from muzero_jax.envs.errors import EnvironmentCreationError, UnknownEnvironmentError

# Packages of environments that are not supported, which a name may begin with.
_UNSUPPORTED_PACKAGES = frozenset(
    (
        *("ale_py", "brax", "craftax", "dm_control", "envpool", "gym", "gymnasium", "jaxmarl"),
        *("jumanji", "kinetix", "minigrid", "mujoco", "mujoco_playground", "navix", "open_spiel"),
        *("pettingzoo", "procgen", "xminigrid"),
    )
)

# Other words that their names begin with, unless a module of the user is called so.
_UNSUPPORTED_WORDS: Mapping[str, str] = {
    "ale": "ale_py (Atari)",
    "atari": "ale_py (Atari)",
    "xland": "xminigrid",
}

Suites = Mapping[str, Collection[str]]
"""The names of the environments of each supported suite."""


def check_name(name: str, built_ins: Collection[str], suites: Suites) -> None:
    """Refuses a name that can only be a mistake.

    Args:
      name: a name as `make_environment` takes it, with its options.
      built_ins: the names of the built-in environments.
      suites: the names of the environments of each supported suite.

    Raises:
      UnknownEnvironmentError: the name belongs to an unsupported suite, or names a suite and no
        environment in it, or writes a suite's name in another case.
      EnvironmentCreationError: an option has no name or no value, or is given twice.
    """
    parts = name.split(":")
    bare = ":".join(part for part in parts if "=" not in part)
    _refuse_unsupported(bare, suites)
    _check_suite(bare, suites)
    known = {*built_ins, *(known_name for names in suites.values() for known_name in names)}
    _check_options(name, bare, known)


def _refuse_unsupported(bare: str, suites: Suites) -> None:
    """Refuses names such as `gymnasium:NAME`, `ALE/Pong-v5` and `MiniGrid-Empty-8x8-v0`."""
    word, *rest = re.split(r"[:/.-]", bare, maxsplit=1)
    package = word.lower() if word.lower() in _UNSUPPORTED_PACKAGES else None
    if word.lower() in _UNSUPPORTED_WORDS and not locate(word):
        package = _UNSUPPORTED_WORDS[word.lower()]
    if package is None:
        return
    same = [
        f"{suite}:{known}"
        for suite, names in suites.items()
        for known in names
        if known.lower() == "".join(rest).lower()
    ]
    hint = f"; did you mean {same[0]}?" if same else "."
    raise UnknownEnvironmentError(
        f"{bare!r} belongs to the suite {package}, which is not supported; supported are the "
        f"built-in environments, {', '.join(f'{suite}:NAME' for suite in suites)}, and "
        f"MODULE:FACTORY for an environment of your own{hint}"
    )


def _check_suite(bare: str, suites: Suites) -> None:
    """Refuses a suite without an environment, and a suite that is written in another case."""
    word, _, rest = bare.partition(":")
    if not rest and word in suites:
        example = f"{word}:{next(iter(suites[word]))}"
        raise UnknownEnvironmentError(
            f"{bare!r} names a suite and no environment in it; write {word}:NAME, for example "
            f"{example} (`muzero list` names them all)."
        )
    if word not in suites and word.lower() in suites:
        meant = f"{word.lower()}:{rest or 'NAME'}"
        raise UnknownEnvironmentError(f"Unknown environment {bare!r}; did you mean {meant}?")


def _check_options(name: str, bare: str, known: Collection[str]) -> None:
    """Refuses parts that are no options, and options that are given twice."""
    first, *rest = bare.split(":")
    # A module of the user may have the name of a built-in environment.
    num_parts = 1 if first in known and not locate(first) else 2
    pairs = [part.partition("=") for part in name.split(":") if "=" in part]
    wrong = rest[num_parts - 1 :] + [
        f"{option}={value}" for option, _, value in pairs if not (option.isidentifier() and value)
    ]
    if wrong:
        raise EnvironmentCreationError(
            f"{name}: {wrong[0]!r} is no option; an option is written OPTION=VALUE."
        )
    given = [option for option, _, _ in pairs]
    twice = [option for option in given if given.count(option) > 1]
    if twice:
        raise EnvironmentCreationError(f"{name}: the option {twice[0]} is given twice.")
