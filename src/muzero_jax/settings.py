"""The settings of a run as plain data: nested dictionaries, and changes to them by dotted name.

The settings of a run's agent stand beside the run's own: `search.num_simulations` is a setting of
MuZero, `training.num_envs` one of every run. Nothing here imports JAX.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from muzero_jax.agents.registry import find_definition
from muzero_jax.config.experiment import ExperimentConfig
from muzero_jax.core import user_code
from muzero_jax.core.dotted import flatten
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.settings import check_names, convert, rebuild, to_plain, types_of

# The settings of the agent stand in `config.yaml` where the field `learner` is in the class.
_LEARNER = "learner"
_OWN = {"name": str, "seed": int}
_SECTIONS = ("environment", "training", "evaluation", "logging")


def config_to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The whole configuration as nested dictionaries of numbers, strings, booleans and lists."""
    tree: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        plain = to_plain(getattr(config, field.name))
        tree |= plain if field.name == _LEARNER else {field.name: plain}
    return tree


def config_from_dict(tree: Any) -> ExperimentConfig:
    """The inverse of `config_to_dict`; settings that are missing take their defaults.

    Raises:
      ConfigError: an unknown setting, a wrong type, or a value that is not allowed.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"settings must be NAME: VALUE, found {str(tree)[:80]!r}.")
    return apply_settings(ExperimentConfig(), tree)


def apply_settings(config: ExperimentConfig, changes: Mapping[str, Any]) -> ExperimentConfig:
    """Returns `config` with `changes`, all made at once, so that pairs need only suit in the end.

    Another `agent` comes with its own settings; the sections that both agents have stay.

    Args:
      config: the settings to start from.
      changes: values by name; names may be nested, dotted, or both.

    Raises:
      ConfigError: an unknown setting, a wrong type, or a value that is not allowed.
    """
    flat = flatten(changes)
    agent = convert("agent", flat.pop("agent", config.agent), str)
    check_names(flat, setting_types(config, agent))
    own = {name: convert(name, flat[name], kind) for name, kind in _OWN.items() if name in flat}
    sections = {name: rebuild(getattr(config, name), flat, f"{name}.") for name in _SECTIONS}
    with user_code.running(f"the settings of the agent {agent} cannot be used"):
        learner = rebuild(_learner_for(config, agent), flat)
    return dataclasses.replace(config, **own, agent=agent, learner=learner, **sections)


def _learner_for(config: ExperimentConfig, agent: str) -> Any:
    """The settings of an agent, begun from those of a run.

    Sections that the run's agent and the other agent both declare, by the same class, stay as they
    are in the run; the rest are the other agent's defaults.
    """
    if agent == config.agent:
        return config.learner
    learner = find_definition(agent).settings()
    return dataclasses.replace(learner, **_shared_sections(config.learner, learner))


def describe_other_agent(before: ExperimentConfig, now: ExperimentConfig) -> str:
    """Which sections of the agent's settings stayed when a run got another agent, in a sentence."""
    if before.agent == now.agent:
        return ""
    kept = _shared_sections(before.learner, now.learner)
    names = [field.name for field in dataclasses.fields(now.learner)]
    fresh = [name for name in names if name not in kept]
    own = ["name", "seed", *_SECTIONS]
    return (
        f"agent {now.agent} in the place of {before.agent}: {', '.join([*own, *kept])} keep the "
        f"values of {before.name}; {', '.join(fresh) or 'no other setting'}: the agent's defaults."
    )


def _shared_sections(learner: Any, other: Any) -> dict[str, Any]:
    """The sections of an agent's settings that another agent declares by the same class."""
    found = {}
    for field in dataclasses.fields(other):
        section = getattr(learner, field.name, None)
        if dataclasses.is_dataclass(section) and type(section) is type(getattr(other, field.name)):
            found[field.name] = section
    return found


def setting_types(config: ExperimentConfig, agent: str = "") -> Mapping[str, Any]:
    """The type of every setting of a run by dotted name, in the order of `config.yaml`.

    Where `agent` names another agent, its settings stand in the place of those of the run's agent.

    Raises:
      ConfigError: there is no such agent.
    """
    found: dict[str, Any] = {}
    learner: Any = type(_learner_for(config, agent or config.agent))
    for name, hint in types_of(ExperimentConfig).items():
        found |= types_of(learner) if name == _LEARNER else {name: hint}
    return found
