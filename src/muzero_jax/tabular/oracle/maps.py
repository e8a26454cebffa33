"""Puts values and actions of a process into the form that `tabular/value_maps.py` draws."""

import numpy as np

from muzero_jax.tabular.processes.mdp import TabularMDP
from muzero_jax.tabular.value_maps import ValueMap


def value_map(mdp: TabularMDP, value: np.ndarray, actions: np.ndarray, title: str = "") -> ValueMap:
    """Puts values and actions on the process's grid.

    Args:
      mdp: the process; it must have a grid.
      value: `[S]` values to write.
      actions: `[S, A]` bool, whether to draw an action.
      title: text above the map; empty for the name of the process.
    """
    assert mdp.grid is not None
    return ValueMap(title or mdp.name, mdp.grid, value, actions)
