"""MuZero (arXiv 1911.08265): it acts by searching a learned model, which it learns by unrolling."""

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.agents.muzero.settings import MuZeroSettings

DEFINITION = AgentDefinition(
    name="muzero",
    settings=MuZeroSettings,
    make="muzero_jax.agents.muzero.agent:make_muzero",
    averages=True,
)
