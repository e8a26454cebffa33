"""Every setting of an experiment: frozen, validated, documented, and free of arrays.

Nothing here imports JAX, so that ``muzero train --help`` stays quick.
"""

from muzero_jax.config.experiment import TRACED_SETTINGS, ExperimentConfig, traced_settings
from muzero_jax.config.learner_sections import (
    AgentConfig,
    AgentKind,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    SearchConfig,
    TableConfig,
    TargetConfig,
)
from muzero_jax.config.run_sections import (
    EnvironmentConfig,
    EvaluationConfig,
    LoggingConfig,
    ReplayConfig,
    TrainingConfig,
)
from muzero_jax.core.errors import ConfigError

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
