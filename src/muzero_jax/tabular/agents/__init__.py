"""Learners that keep a number for each state, as the registry of agents names them. No JAX."""

from muzero_jax.agents.definition import AgentDefinition
from muzero_jax.tabular.settings import (
    DynaSettings,
    QSettings,
    RmaxSettings,
    SweepingSettings,
    TableMuZeroSettings,
)

_Q_LEARNER = "muzero_jax.tabular.agents.q_learners:make_q_learner"
_TABLE_MUZERO = "muzero_jax.tabular.agents.table_muzero:make_table_muzero"

TABLE_MUZERO = AgentDefinition("table_muzero", TableMuZeroSettings, _TABLE_MUZERO)
Q_LEARNING = AgentDefinition("q_learning", QSettings, _Q_LEARNER)
DYNA_Q = AgentDefinition("dyna_q", DynaSettings, _Q_LEARNER)
PRIORITISED_SWEEPING = AgentDefinition("prioritised_sweeping", SweepingSettings, _Q_LEARNER)
RMAX = AgentDefinition("rmax", RmaxSettings, _Q_LEARNER)
