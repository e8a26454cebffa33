"""DQN (Mnih et al. 2015) and its kin: action values learned from replayed steps, no search."""

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.agents.dqn.settings import DQNSettings

DEFINITION = AgentDefinition(
    name="dqn",
    settings=DQNSettings,
    make="muzero_jax.agents.dqn.agent:make_dqn",
    averages=True,
)
