"""Every setting of an experiment: frozen, validated, documented, and free of arrays.

Nothing here imports JAX, so that ``muzero train --help`` stays quick.
"""

from muzero_jax.agents.muzero.settings import LossConfig as LossConfig
from muzero_jax.agents.muzero.settings import MuZeroSettings as MuZeroSettings
from muzero_jax.agents.muzero.settings import TargetConfig as TargetConfig
from muzero_jax.agents.settings import ExplorationConfig as ExplorationConfig
from muzero_jax.agents.settings import OptimizerConfig as OptimizerConfig
from muzero_jax.config.experiment import ExperimentConfig as ExperimentConfig
from muzero_jax.config.experiment import traced_settings as traced_settings
from muzero_jax.config.sections import EnvironmentConfig as EnvironmentConfig
from muzero_jax.config.sections import EvaluationConfig as EvaluationConfig
from muzero_jax.config.sections import LoggingConfig as LoggingConfig
from muzero_jax.config.sections import TrainingConfig as TrainingConfig
from muzero_jax.core.errors import ConfigError as ConfigError
from muzero_jax.networks.settings import NetworkConfig as NetworkConfig
from muzero_jax.replay.settings import ReplayConfig as ReplayConfig
from muzero_jax.search.settings import SearchConfig as SearchConfig
