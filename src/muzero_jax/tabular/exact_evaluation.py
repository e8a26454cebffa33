"""What an agent has learned of a tabular environment, against the exact answers.

The agent is asked once in every state, without noise, and its answers make a policy whose value is
computed, not sampled: no episode is played, and none can be cut off.
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
    """Compares an agent with the optimum of a process, discounted as the process says.

    Args:
      env: the tabular environment.
      agent: the learner.
      num_steps: values of policies count so many steps, where nothing is discounted and a policy
        may never end; the environment's time limit.

    Attributes:
      mdp: the process.
      optimal_return: of the process.
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
        """The agent's greedy actions and values, `[S]` each; pure, to be compiled and vmapped."""
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
        """What the answers are worth.

        Args:
          action: `[S]` the greedy policy.
          value: `[S]` the learned values.

        Returns:
          `oracle/greedy_return`, the exact discounted return of the policy from the start;
          `oracle/policy_regret`, what it lacks of the optimal return; `oracle/value_rmse`, the
          distance of the values from the optimal ones, over the states that can be reached.
        """
        greedy_return = start_return(self.mdp, self._policy_value(np.asarray(action)))
        error = (np.asarray(value, np.float64) - self._value)[self._reachable]
        return {
            "oracle/greedy_return": greedy_return,
            "oracle/policy_regret": self.optimal_return - greedy_return,
            "oracle/value_rmse": float(np.sqrt(np.mean(np.square(error)))),
        }

    def _policy_value(self, policy: np.ndarray) -> np.ndarray:
        """Remembers the last policies: late in a run most evaluations find one that was there."""
        key = policy.tobytes()
        if key not in self._known:
            if len(self._known) >= 1_000:
                self._known.clear()
            self._known[key] = policy_value(self.mdp, policy, num_steps=self._num_steps)
        return self._known[key]


def make_exact_evaluation(env: Environment, agent: Agent) -> ExactEvaluation | None:
    """The exact evaluation of an agent; None where the environment is not tabular."""
    tabular = underlying_tabular(env)
    if tabular is None:
        return None
    return ExactEvaluation(tabular, agent, env.spec.max_episode_steps)
