"""A sweep's axes as Optuna's suggestions."""

import json
from collections.abc import Sequence
from typing import Any

from muzero_jax.sweeps.space import Axis, Range


def suggest(trial: Any, axes: Sequence[Axis]) -> dict[str, Any]:
    """The setting of a trial; one that has it already, from before a kill, gives it again.

    Args:
      trial: of Optuna.
      axes: of the study.
    """
    return {axis.name: _suggest_one(trial, axis) for axis in axes}


def _suggest_one(trial: Any, axis: Axis) -> Any:
    if not isinstance(axis, Range):
        # Optuna keeps plain values only; a value may be a list here.
        choices = {_choice(value): value for value in axis.values}
        return choices[trial.suggest_categorical(axis.name, list(choices))]
    if axis.is_integer:
        return trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.is_log)
    return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.is_log)


def _choice(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value
