"""A process, its values and actions, as `analysis.value_maps` draws them."""

import numpy as np

from muzero_jax.tabular.processes.mdp import TabularMDP
from muzero_jax.tabular.value_maps import ValueMap


def value_map(mdp: TabularMDP, value: np.ndarray, actions: np.ndarray, title: str = "") -> ValueMap:
    """Puts values and actions on the process's grid.

    Args:
      mdp: the process; it must have a grid.
      value: `[S]`.
      actions: `[S, A]` bool, those to draw.
      title: above the map.
    """
    assert mdp.grid is not None
    return ValueMap(title or mdp.name, mdp.grid, value, actions)
