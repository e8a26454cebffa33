"""A trained run's network, and real observations to search from."""

from pathlib import Path

import jax
import jax.numpy as jnp

from muzero_jax.agents.muzero.agent import make_muzero_model
from muzero_jax.agents.muzero.planning import NetworkSearchModel
from muzero_jax.config import ConfigError, MuZeroSettings
from muzero_jax.core.types import PRNGKey, TimeStep
from muzero_jax.envs.base import EnvState, random_legal_action
from muzero_jax.envs.wrappers import AutoReset, Vectorised
from muzero_jax.profiling.search_cost import Workload
from muzero_jax.runs.build import load_run

# Random steps before the observations are taken, so that they are not all those of a reset.
_NUM_STEPS = 20


class TrainedNetwork:
    """The newest checkpoint of a run.

    Attributes:
      name: the name of the experiment.
      num_actions: actions of its environment.
      search: the run's settings of the search.

    Raises:
      RunError: the run cannot be read.
      ConfigError: the run's agent is not muzero.
    """

    def __init__(self, run_dir: Path):
        self._run = load_run(run_dir)
        learner = self._run.config.learner
        if not isinstance(learner, MuZeroSettings):
            raise ConfigError(
                f"{run_dir} is a run of the agent {self._run.config.agent}; searches are timed "
                "with the networks of muzero."
            )
        self._model = NetworkSearchModel(make_muzero_model(learner, self._run.env.spec))
        self.name = self._run.config.name
        self.num_actions = self._run.env.spec.num_actions
        self.search = learner.search

    def workload(self, batch_size: int, seed: int = 0) -> Workload:
        """Roots `[B]` at observations of `B` episodes under random actions."""
        timestep = jax.jit(self._play, static_argnums=1)(jax.random.key(seed), batch_size)
        state = self._run.agent_state
        return Workload(
            params=state.params,
            root=jax.jit(self._model.root)(state.params, timestep.observation),
            recurrent_fn=self._model.recurrent_fn(state.hyperparameters["target.discount"]),
            legal_action_mask=timestep.legal_action_mask,
        )

    def _play(self, rng_key: PRNGKey, batch_size: int) -> TimeStep:
        env = Vectorised(AutoReset(self._run.env), batch_size)

        def step(
            carry: tuple[EnvState, TimeStep], rng_key: PRNGKey
        ) -> tuple[tuple[EnvState, TimeStep], None]:
            env_state, timestep = carry
            act_key, env_key = jax.random.split(rng_key)
            action = random_legal_action(act_key, timestep.legal_action_mask)
            return env.step(env_key, env_state, action.astype(jnp.int32)), None

        reset_key, steps_key = jax.random.split(rng_key)
        keys = jax.random.split(steps_key, _NUM_STEPS)
        (_, timestep), _ = jax.lax.scan(step, env.reset(reset_key), keys)
        return timestep
