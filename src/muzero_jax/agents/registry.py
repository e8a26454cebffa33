"""From the name of an agent to its definition. Nothing here imports JAX."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.core import user_code
from muzero_jax.core.checks import require, require_type
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.settings import is_readable, is_traced
from muzero_jax.replay.settings import ReplayConfig

BUILT_IN: Mapping[str, str] = {
    "muzero": "muzero_jax.agents.muzero:DEFINITION",
    "dqn": "muzero_jax.agents.dqn:DEFINITION",
    "pqn": "muzero_jax.agents.pqn:DEFINITION",
    "table_muzero": "muzero_jax.tabular.agents:TABLE_MUZERO",
    "q_learning": "muzero_jax.tabular.agents:Q_LEARNING",
    "dyna_q": "muzero_jax.tabular.agents:DYNA_Q",
    "prioritised_sweeping": "muzero_jax.tabular.agents:PRIORITISED_SWEEPING",
    "rmax": "muzero_jax.tabular.agents:RMAX",
}
"""The agents of this package: where the definition of each stands."""

# Names that the settings of a run and the options of the commands have taken.
_TAKEN = frozenset(
    {
        *("name", "seed", "agent", "environment", "learner", "training", "evaluation", "logging"),
        *("experiment", "out", "config", "num_devices", "distributed", "resume", "restart"),
        *("init_from", "checkpoint", "help", "trust", "traceback", "set", "seeds", "points"),
        *("samples", "sample_seed", "study", "trials", "pruner", "deterministic", "ray", "devices"),
        *("width", "json", "repeats", "status", "setting", "reason", "folder", "device"),
        *("num_updates", "env_steps", "score_mean", "score_std", "last_score_mean"),
        *("last_score_std", "best_score_mean", "best_score_std", "best_env_steps"),
    }
)


def find_definition(name: str) -> AgentDefinition:
    """The definition of an agent.

    Args:
      name: a name of `BUILT_IN`, or `MODULE:DEFINITION` for an agent of the user's own.

    Raises:
      ConfigError: there is no such agent, or its definition cannot be used.
    """
    if name in BUILT_IN:
        built_in: AgentDefinition = user_code.load_reference(BUILT_IN[name])
        return built_in
    if ":" not in name:
        close = difflib.get_close_matches(name, BUILT_IN, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}" if close else f"there are {', '.join(BUILT_IN)}"
        raise ConfigError(f"unknown agent {name!r}; {hint}, and MODULE:DEFINITION names your own.")
    definition = user_code.find(name, "agent")
    if not isinstance(definition, AgentDefinition):
        raise ConfigError(
            f"{name} must be an AgentDefinition, found a {type(definition).__name__}."
        )
    _check_settings(name, definition.settings)
    return definition


def _check_settings(agent: str, settings: type) -> None:
    """Refuses settings that cannot be read from a command line or a file, or written to one."""
    with user_code.running(f"the settings of {agent} cannot be made from their defaults"):
        is_section = isinstance(settings, type) and dataclasses.is_dataclass(settings)
        require(is_section, f"the settings of {agent} must be a dataclass, found {settings!r}.")
        _check_section(agent, settings(), "")
    taken = [field.name for field in dataclasses.fields(settings) if field.name in _TAKEN]
    require(
        not taken,
        f"the setting {', '.join(taken)} of {agent} has the name of an option of a command, or of "
        "a column of a sweep's table; give it another name.",
    )


def _check_section(agent: str, section: Any, prefix: str) -> None:
    """Checks a section with its defaults, and the sections in it."""
    told = f"the section {prefix.rstrip('.')} of {agent}" if prefix else f"the settings of {agent}"
    is_frozen = type(section).__dataclass_params__.frozen
    require(is_frozen, f"{told} must be a frozen dataclass: @dataclasses.dataclass(frozen=True).")
    hints = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        name, value, hint = f"{prefix}{field.name}", getattr(section, field.name), hints[field.name]
        told, is_section = f"the setting {name} of {agent}", dataclasses.is_dataclass(hint)
        require(field.init, f"{told} must not have init=False.")
        is_right = name != "replay" or hint is ReplayConfig
        require(is_right, f"{told} must be a ReplayConfig, found {hint!r}.")
        require(
            is_section or is_readable(hint),
            f"{told} must be a number, a text, a boolean, a Literal of texts, or a tuple of such "
            f"values like tuple[int, ...], found {hint!r}.",
        )
        is_right = hint is float or not is_traced(field)
        require(is_right, f"{told} is traced, and must be a float, found {hint!r}.")
        require_type(f"the default of {name} of {agent}", value, hint)
        if is_section:
            _check_section(agent, value, f"{name}.")
