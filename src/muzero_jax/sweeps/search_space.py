"""A sweep's axes as Optuna's suggestions."""

import json
from typing import Any

from muzero_jax.sweeps.space import Axis, Range


def suggest(trial: Any, axis: Axis) -> Any:
    """The value of one setting of a trial; a trial that has it from before a kill gives it again.

    Args:
      trial: Optuna's trial.
      axis: the setting, and what it is chosen from.
    """
    if not isinstance(axis, Range):
        # Optuna keeps plain values only; a value may be a list here.
        choices = {_choice(value): value for value in axis.values}
        return choices[trial.suggest_categorical(axis.name, list(choices))]
    if axis.is_integer:
        return trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.is_log)
    return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.is_log)


def _choice(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value
