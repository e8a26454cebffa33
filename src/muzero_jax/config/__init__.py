"""Every setting of an experiment: frozen, validated, documented, and free of arrays.

Nothing here imports JAX, so that ``muzero train --help`` stays quick.
"""

from muzero_jax.agents.muzero.settings import LossConfig, MuZeroSettings, TargetConfig
from muzero_jax.agents.settings import OptimizerConfig
from muzero_jax.config.experiment import ExperimentConfig, traced_settings
from muzero_jax.config.sections import (
    EnvironmentConfig,
    EvaluationConfig,
    LoggingConfig,
    TrainingConfig,
)
from muzero_jax.core.errors import ConfigError
from muzero_jax.networks.settings import NetworkConfig
from muzero_jax.replay.settings import ReplayConfig
from muzero_jax.search.settings import SearchConfig

__all__ = [
    "ConfigError",
    "EnvironmentConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "LoggingConfig",
    "LossConfig",
    "MuZeroSettings",
    "NetworkConfig",
    "OptimizerConfig",
    "ReplayConfig",
    "SearchConfig",
    "TargetConfig",
    "TrainingConfig",
    "traced_settings",
]
