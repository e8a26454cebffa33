"""Compares what an agent has learned of a tabular environment with the exact answers."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from muzero_jax.agents.base import Agent, Moment
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.types import Array, PRNGKey, PyTree
from muzero_jax.envs.base import Environment
from muzero_jax.envs.wrappers import TimeLimit, TimeLimitState
from muzero_jax.tabular.oracle.dynamic_programming import policy_return, solve
from muzero_jax.tabular.processes.environments import underlying_tabular
from muzero_jax.tabular.processes.mdp import TabularMDP


class ExactEvaluation:
    """Compares an agent with the optimum of a process, under the discount of the process.

    The agent is asked once in every state, without noise, and the value of the policy that its
    answers make is computed. Where nothing is discounted and a policy may never end, as many steps
    count as the environment's time limit has.

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
        solution = solve(self.mdp)
        self.optimal_return, self._value = solution.optimal_return, solution.value
        self._reachable = self.mdp.reachable
        # Late in a run most policies are old ones.
        self._return_of = functools.lru_cache(1_000)(self._compute_return)

    def answers(self, agent_state: PyTree, rng_key: PRNGKey) -> dict[str, Array]:
        """The agent's greedy `action` and its `value`, `[S]` each; without values the action alone.

        The agent is always asked with the same key, so that its actions are a policy.
        """
        del rng_key
        num_states = self.mdp.num_states
        every, episode_step = jnp.arange(num_states), jnp.zeros(num_states, jnp.int32)
        timestep = jax.vmap(self._tabular.timestep)(every)
        env_state: PyTree = every
        if isinstance(self._env, TimeLimit):
            env_state = TimeLimitState(env_state=every, num_steps=episode_step)
        moment = Moment(timestep, self._agent.init_memory(num_states), episode_step, env_state)
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
          `oracle/policy_regret`, what it lacks of the optimal return; `oracle/value_rmse`, the root
          mean square error of the values over the states that can be reached.
        """
        greedy_return = self._return_of(tuple(answers["action"].tolist()))
        found = {
            "oracle/greedy_return": greedy_return,
            "oracle/policy_regret": self.optimal_return - greedy_return,
        }
        if "value" in answers:
            error = np.asarray(answers["value"], np.float64) - self._value
            mean = np.mean(np.square(error[self._reachable]))
            found["oracle/value_rmse"] = float(np.sqrt(mean))
        return found

    def _compute_return(self, policy: tuple[int, ...]) -> float:
        num_steps = self._env.spec.max_episode_steps if self.mdp.discount == 1.0 else None
        return policy_return(self.mdp, np.array(policy), num_steps)
