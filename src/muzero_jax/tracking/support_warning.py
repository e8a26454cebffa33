"""Warns once that a run's values or rewards lie beyond what its networks can express."""

import math
from collections.abc import Mapping

import jax.numpy as jnp

from muzero_jax.config import ExperimentConfig, NetworkConfig
from muzero_jax.maths.value_support import signed_hyperbolic

# Value targets contain predictions, which may overshoot early; rewards do not.
_MOST_CLIPPED = {"value": 0.01, "reward": 0.001}
# The largest target so far was made from clipped predictions, so that later ones will be larger.
_HEADROOM = 1.25


class SupportWarning:
    """Watches the metrics of a run's chunks; `config` holds the settings of the run."""

    def __init__(self, config: ExperimentConfig):
        network = getattr(config.learner, "network", None)
        self._network = network if isinstance(network, NetworkConfig) else NetworkConfig()
        self._has_told = False

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        """The warning at the first chunk in which too many targets are clipped; otherwise None."""
        told = [
            f"{_percent(share)} of the {name} targets"
            for name, most in _MOST_CLIPPED.items()
            if (share := metrics.get(f"target/{name}_clipped", 0.0)) >= most
        ]
        if self._has_told or not told:
            return None
        self._has_told = True
        largest = max(metrics[f"target/{name}_largest"] for name in _MOST_CLIPPED)
        return (
            f"warning: {' and '.join(told)} lie beyond the support of the networks, which take "
            f"them all for its edge; the largest target is {largest:.4g}, so "
            f"{self._advice(largest / metrics.get('target/reward_unit', 1.0))}."
        )

    def _advice(self, largest: float) -> str:
        """The setting to change so that a target of `largest` units of reward is not clipped."""
        reach = _HEADROOM * float(signed_hyperbolic(jnp.float32(largest)))
        if not math.isfinite(reach):
            return "look at the rewards of the environment"
        size = math.ceil(reach / self._network.support_spacing)
        spacing = reach / self._network.support_size
        return (
            f"raise network.support_size to {size}, or network.support_spacing to {spacing:.2g}, "
            "or make the rewards of the environment smaller"
        )


def _percent(share: float) -> str:
    """A share in percent, with two digits if it is below ten percent."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
