"""Every setting of an experiment: frozen, validated, documented, and free of arrays.

Nothing here imports JAX, so that ``muzero train --help`` stays quick.
"""

from muzero_jax.config.checks import ConfigError
from muzero_jax.config.experiment import TRACED_SETTINGS, ExperimentConfig, traced_settings
from muzero_jax.config.sections import (
    AgentConfig,
    AgentKind,
    EnvironmentConfig,
    EvaluationConfig,
    LoggingConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
    TableConfig,
    TargetConfig,
    TrainingConfig,
)

__all__ = [
    "TRACED_SETTINGS",
    "AgentConfig",
    "AgentKind",
    "ConfigError",
    "EnvironmentConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "LoggingConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "ReplayConfig",
    "SearchConfig",
    "TableConfig",
    "TargetConfig",
    "TrainingConfig",
    "traced_settings",
]
