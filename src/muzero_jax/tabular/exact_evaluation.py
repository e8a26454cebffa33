"""Compares what an agent has learned of a tabular environment with the exact answers.

The agent is asked once in every state, without noise. The value of the policy that its answers make
is computed, not sampled: no episode is played, so none can be cut off.
"""

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.agents.base import Agent
from muzero_jax.core.types import Array, PyTree, TimeStep
from muzero_jax.envs.base import Environment
from muzero_jax.tabular.oracle.dynamic_programming import policy_value, solve, start_return
from muzero_jax.tabular.processes.environments import TabularEnvironment, underlying_tabular
from muzero_jax.tabular.processes.mdp import TabularMDP


class ExactEvaluation:
    """Compares an agent with the optimum of a process, under the discount of the process.

    Args:
      env: the tabular environment.
      agent: the learner.
      num_steps: the time limit of the environment. The value of a policy counts so many steps where
        the discount is 1, because the policy may never end.

    Attributes:
      mdp: the process.
      optimal_return: the optimal return of the process.
    """

    def __init__(self, env: TabularEnvironment, agent: Agent, num_steps: int | None = None):
        self.mdp: TabularMDP = env.mdp
        self._env, self._agent = env, agent
        self._num_steps = num_steps if self.mdp.discount == 1.0 else None
        solution = solve(self.mdp)
        self.optimal_return, self._value = solution.optimal_return, solution.value
        self._reachable = self.mdp.reachable
        self._known: dict[bytes, np.ndarray] = {}

    def answers(self, agent_state: PyTree) -> tuple[Array, Array]:
        """`[S]` greedy actions and `[S]` values of the agent; can be compiled and vmapped."""
        every = jnp.arange(self.mdp.num_states)
        num_states, num_actions = self.mdp.num_states, self.mdp.num_actions
        timestep = TimeStep(
            observation=self._env.observe(every),
            reward=jnp.zeros((num_states, 1)),
            discount=jnp.ones(num_states),
            truncated=jnp.zeros(num_states, bool),
            legal_action_mask=jnp.ones((num_states, num_actions), bool),
            to_play=jnp.zeros(num_states, jnp.int32),
        )
        output = self._agent.act(agent_state, jax.random.key(0), timestep, False)
        return output.action, output.value

    def metrics(self, action: np.ndarray, value: np.ndarray) -> dict[str, float]:
        """Compares the agent's answers with the optimum.

        Args:
          action: `[S]` the greedy policy.
          value: `[S]` the learned values.

        Returns:
          `oracle/greedy_return`, the exact discounted return of the policy from the start;
          `oracle/policy_regret`, the optimal return less that; `oracle/value_rmse`, the root mean
          square error of the values over the states that can be reached.
        """
        greedy_return = start_return(self.mdp, self._policy_value(np.asarray(action)))
        error = (np.asarray(value, np.float64) - self._value)[self._reachable]
        return {
            "oracle/greedy_return": greedy_return,
            "oracle/policy_regret": self.optimal_return - greedy_return,
            "oracle/value_rmse": float(np.sqrt(np.mean(np.square(error)))),
        }

    def _policy_value(self, policy: np.ndarray) -> np.ndarray:
        """`[S]` values of a policy, remembered because late in a run most policies are old ones."""
        key = policy.tobytes()
        if key not in self._known:
            if len(self._known) >= 1_000:
                self._known.clear()
            self._known[key] = policy_value(self.mdp, policy, num_steps=self._num_steps)
        return self._known[key]


def make_exact_evaluation(env: Environment, agent: Agent) -> ExactEvaluation | None:
    """Returns the exact evaluation of an agent, or None where the environment is not tabular."""
    tabular = underlying_tabular(env)
    if tabular is None:
        return None
    return ExactEvaluation(tabular, agent, env.spec.max_episode_steps)
