"""Learners that keep a number for each state, as the registry of agents names them. No JAX."""

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.tabular.settings import (
    DynaSettings,
    QSettings,
    RmaxSettings,
    SweepingSettings,
    TableMuZeroSettings,
)

_LEARNERS = "muzero_jax.tabular.agents.q_learners"

TABLE_MUZERO = AgentDefinition(
    "table_muzero", TableMuZeroSettings, "muzero_jax.tabular.agents.table_muzero:make_table_muzero"
)
Q_LEARNING = AgentDefinition("q_learning", QSettings, f"{_LEARNERS}:make_q_learning")
DYNA_Q = AgentDefinition("dyna_q", DynaSettings, f"{_LEARNERS}:make_dyna_q")
PRIORITISED_SWEEPING = AgentDefinition(
    "prioritised_sweeping", SweepingSettings, f"{_LEARNERS}:make_prioritised_sweeping"
)
RMAX = AgentDefinition("rmax", RmaxSettings, f"{_LEARNERS}:make_rmax")
