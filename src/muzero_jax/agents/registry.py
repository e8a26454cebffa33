"""From the name of an agent to its definition. Nothing here imports JAX."""

import dataclasses
import difflib
import importlib
from collections.abc import Mapping

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.core import user_code
from muzero_jax.core.checks import require
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.settings import is_readable, types_of

BUILT_IN: Mapping[str, str] = {
    "muzero": "muzero_jax.agents.muzero:DEFINITION",
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
        *("init_from", "checkpoint", "help", "trust", "traceback"),
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
        module, _, attribute = BUILT_IN[name].partition(":")
        definition: AgentDefinition = getattr(importlib.import_module(module), attribute)
        return definition
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        close = difflib.get_close_matches(name, BUILT_IN, n=2, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(BUILT_IN)}"
        )
        raise ConfigError(
            f"unknown agent {name!r}; {hint.rstrip('?')}, and MODULE:DEFINITION names your own."
        )
    definition = user_code.find(module, attribute, "agent")
    if not isinstance(definition, AgentDefinition):
        raise ConfigError(
            f"{name} must be an AgentDefinition, found a {type(definition).__name__}."
        )
    _check_settings(name, definition.settings)
    return definition


def _check_settings(agent: str, settings: type) -> None:
    """Refuses settings that cannot be read from a command line or a file."""
    is_section = isinstance(settings, type) and dataclasses.is_dataclass(settings)
    require(is_section, f"the settings of {agent} must be a dataclass, found {settings!r}.")
    with user_code.running(f"the settings of {agent} cannot be read"):
        types = types_of(settings)
        settings()
    taken = [field.name for field in dataclasses.fields(settings) if field.name in _TAKEN]
    require(not taken, f"the setting {', '.join(taken)} of {agent} has the name of an option.")
    for name, hint in types.items():
        require(
            is_readable(hint),
            f"the setting {name} of {agent} must be a number, a text, a boolean, a Literal, or a "
            f"tuple of such values like tuple[int, ...], found {hint!r}.",
        )
