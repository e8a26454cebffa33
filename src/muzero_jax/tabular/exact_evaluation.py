"""Compares what an agent has learned of a tabular environment with the exact answers.

The agent is asked once in every state, without noise. The value of the policy that its answers make
is computed, not sampled: no episode is played, so none can be cut off.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.agents.base import Agent, Moment
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, PRNGKey, PyTree, TimeStep
from muzero_jax.envs.base import Environment
from muzero_jax.envs.wrappers import TimeLimit, TimeLimitState
from muzero_jax.tabular.oracle.dynamic_programming import policy_value, solve, start_return
from muzero_jax.tabular.processes.environments import underlying_tabular
from muzero_jax.tabular.processes.mdp import TabularMDP


class ExactEvaluation:
    """Compares an agent with the optimum of a process, under the discount of the process.

    Where nothing is discounted and a policy may never end, values of policies count as many steps
    as the environment's time limit has.

    Args:
      env: the tabular environment, with or without a time limit.
      agent: the learner.

    Attributes:
      mdp: the process.
      optimal_return: the optimal return of the process.

    Raises (when constructed):
      ConfigError: the environment is not tabular.
    """

    def __init__(self, env: Environment, agent: Agent):
        tabular = underlying_tabular(env)
        if tabular is None:
            raise ConfigError(f"{env.spec.name} is not tabular, so nothing is exact there.")
        self.mdp: TabularMDP = tabular.mdp
        self._env, self._tabular, self._agent = env, tabular, agent
        self._num_steps = env.spec.max_episode_steps if self.mdp.discount == 1.0 else None
        solution = solve(self.mdp)
        self.optimal_return, self._value = solution.optimal_return, solution.value
        self._reachable = self.mdp.reachable
        self._known: dict[bytes, np.ndarray] = {}

    def answers(self, agent_state: PyTree, rng_key: PRNGKey) -> dict[str, Array]:
        """The agent's greedy `action` and its `value`, `[S]` each; without values the action alone.

        The agent is always asked with the same key, so that its actions are a policy.
        """
        del rng_key
        num_states, num_actions = self.mdp.num_states, self.mdp.num_actions
        every = jnp.arange(num_states)
        timestep = TimeStep(
            observation=self._tabular.observe(every),
            reward=jnp.zeros((num_states, 1)),
            discount=jnp.ones(num_states),
            truncated=jnp.zeros(num_states, bool),
            legal_action_mask=jnp.ones((num_states, num_actions), bool),
            to_play=jnp.zeros(num_states, jnp.int32),
        )
        episode_step = jnp.zeros(num_states, jnp.int32)
        env_state: PyTree = every
        if isinstance(self._env, TimeLimit):
            env_state = TimeLimitState(env_state=every, num_steps=episode_step)
        memory = self._agent.init_memory(num_states)
        moment = Moment(timestep, memory, episode_step, env_state)
        output = self._agent.act_greedily(agent_state, jax.random.key(0), moment)
        answers = {"action": output.action}
        return answers if output.value is None else answers | {"value": output.value}

    def metrics(self, answers: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What the answers are worth.

        Args:
          answers: the greedy policy `action` and, where the agent has learned any, the values
            `value`, `[S]` each.

        Returns:
          `oracle/greedy_return`, the exact discounted return of the policy from the start;
          `oracle/policy_regret`, the optimal return less that; `oracle/value_rmse`, the root mean
          square error of the values over the states that can be reached.
        """
        policy = np.asarray(answers["action"])
        greedy_return = start_return(self.mdp, self._policy_value(policy))
        found = {
            "oracle/greedy_return": greedy_return,
            "oracle/policy_regret": self.optimal_return - greedy_return,
        }
        if "value" in answers:
            error = np.asarray(answers["value"], np.float64) - self._value
            mean = np.mean(np.square(error[self._reachable]))
            found["oracle/value_rmse"] = float(np.sqrt(mean))
        return found

    def _policy_value(self, policy: np.ndarray) -> np.ndarray:
        """`[S]` values of a policy, remembered because late in a run most policies are old ones."""
        key = policy.tobytes()
        if key not in self._known:
            if len(self._known) >= 1_000:
                self._known.clear()
            self._known[key] = policy_value(self.mdp, policy, num_steps=self._num_steps)
        return self._known[key]
