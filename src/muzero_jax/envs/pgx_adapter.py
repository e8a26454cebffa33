"""pgx games (boards, cards, 2048, MinAtar) behind the protocol.

pgx numbers the players, gives a reward to each and says who moves; all of this is passed on. Its
games end by themselves, some at a move limit in their rules. Only its MinAtar games can go on for
ever, and get a time limit here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from muzero_jax.core.checks import require
from muzero_jax.core.types import Array, PRNGKey, TimeStep
from muzero_jax.envs.base import Environment, EnvironmentSpec, EnvState, make_timestep
from muzero_jax.envs.errors import UnknownEnvironmentError
from muzero_jax.envs.suites import import_suite
from muzero_jax.envs.wrappers import TimeLimit

# Games for one player, or for two who alternate; known without importing the suite.
PGX_NAMES = (
    *("2048", "animal_shogi", "chess", "connect_four", "gardner_chess", "go_19x19", "go_9x9"),
    *("hex", "kuhn_poker", "minatar-asterix", "minatar-breakout", "minatar-freeway"),
    *("minatar-seaquest", "minatar-space_invaders", "othello", "shogi", "tic_tac_toe"),
)

# The value is negated at every step, which is wrong where a player moves several times in a row.
_NOT_ALTERNATING = ("backgammon", "leduc_holdem")

# Upper bounds on the number of moves: a full board, the most betting, or pgx's own move limit.
_MAX_MOVES: Mapping[str, int] = {
    **{"animal_shogi": 256, "chess": 512, "connect_four": 42, "gardner_chess": 256, "shogi": 512},
    **{"go_19x19": 722, "go_9x9": 162, "hex": 122, "kuhn_poker": 3, "tic_tac_toe": 9},
}

# The time limits are gymnax's. pgx ends Freeway after step 2501 and calls that a termination; the
# limit truncates the episode one step earlier.
_TIME_LIMITS: Mapping[str, int] = {
    name: 2500 if name == "minatar-freeway" else 1000
    for name in PGX_NAMES
    if name.startswith("minatar-")
}


@dataclasses.dataclass(frozen=True, eq=False)
class PgxEnvironment:
    """A pgx game.

    Attributes:
      suite_env: the pgx game.
      spec: the static description.
    """

    suite_env: Any
    spec: EnvironmentSpec

    def reset(self, rng_key: PRNGKey) -> tuple[EnvState, TimeStep]:
        """Starts a game; pgx may draw who moves first. The `rng_key` is consumed."""
        # The suite's code is not written for strict rank promotion.
        with jax.numpy_rank_promotion("allow"):
            state = self.suite_env.init(rng_key)
        return state, self._timestep(state)

    def step(self, rng_key: PRNGKey, state: EnvState, action: Array) -> tuple[EnvState, TimeStep]:
        """Takes an action; an illegal one loses.

        Args:
          rng_key: consumed.
          state: the state before the step.
          action: `[]` int32.
        """
        with jax.numpy_rank_promotion("allow"):
            next_state = self.suite_env.step(state, action, rng_key)
        return next_state, self._timestep(next_state)

    def _timestep(self, state: EnvState) -> TimeStep:
        return make_timestep(
            state.observation.astype(self.spec.observation_dtype),
            num_actions=self.spec.num_actions,
            reward=state.rewards,
            terminated=state.terminated,
            legal_action_mask=state.legal_action_mask,
            to_play=state.current_player,
        )


def make_pgx(name: str, /, *, max_steps: int | None = None) -> Environment:
    """Makes a pgx game.

    Args:
      name: pgx's name, for example `connect_four`.
      max_steps: the time limit; None is 1000 for MinAtar (2500 for Freeway), and no limit for the
        other games, which end by themselves.

    Raises:
      UnknownEnvironmentError: pgx does not know the name.
      ConfigError: pgx is not installed, or the game has more than two players, or two players who
        do not alternate.
    """
    pgx = import_suite("pgx")
    if name not in pgx.available_envs():
        raise UnknownEnvironmentError(f"pgx has no game {name!r}.")
    require(
        name not in _NOT_ALTERNATING,
        "a player can move twice in a row; players must alternate.",
    )
    suite_env = pgx.make(name)
    num_players = suite_env.num_players
    require(num_players <= 2, f"it has {num_players} players; games for one or two are supported.")
    env = PgxEnvironment(suite_env, _describe(name, suite_env))
    max_steps = _TIME_LIMITS.get(name) if max_steps is None else max_steps
    return env if max_steps is None else TimeLimit(env, max_steps)


def _describe(name: str, suite_env: Any) -> EnvironmentSpec:
    """Makes the description from the shapes that the game really gives."""
    with jax.numpy_rank_promotion("allow"):
        state = jax.eval_shape(suite_env.init, jax.eval_shape(jax.random.key, 0))
    return EnvironmentSpec(
        name=f"pgx:{name}",
        observation_shape=state.observation.shape,
        observation_dtype="bool" if state.observation.dtype == jnp.bool_ else "float32",
        num_actions=state.legal_action_mask.shape[0],
        num_players=suite_env.num_players,
        max_episode_steps=_MAX_MOVES.get(name),
    )
