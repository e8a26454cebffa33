"""PQN (Gallici et al. 2024, arXiv 2407.04811): Q-learning from many environments, no replay."""

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.agents.pqn.settings import PQNSettings

DEFINITION = AgentDefinition(
    name="pqn",
    settings=PQNSettings,
    make="muzero_jax.agents.pqn.agent:make_pqn",
    averages=True,
)
