"""`muzero oracle`: the exact optimum of a tabular environment."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_jax.cli.options import Between, parse_options
from muzero_jax.config import ConfigError
from muzero_jax.core.output_paths import check_file
from muzero_jax.core.stages import announce
from muzero_jax.process.jax_process import prepare_jax

if TYPE_CHECKING:
    from muzero_jax.tabular.oracle.dynamic_programming import Solution
    from muzero_jax.tabular.processes.mdp import TabularMDP

_MOST_COLUMNS, _MOST_STATES = 12, 40
# Solving a process with so many states may take longer than a moment.
_LARGE = 200


@dataclasses.dataclass(frozen=True)
class OracleOptions:
    """Solves a tabular environment exactly: its optimal return, values and actions.

    The return is the discounted return, in the mean over the start distribution.
    """

    environment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")]
    """Name with options, such as maze:slip=0.1, or module:factory of your own."""
    discount: Annotated[float, Between(0, 1)] = 0.0
    """Discount of one step, in (0, 1]; 0 takes the environment's own discount."""
    figure: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """PNG file for a picture of the values and actions."""
    json: bool = False
    """Print one JSON object."""


def oracle(args: Sequence[str]) -> None:
    """Prints the optimum of an environment, and draws it if `--figure` is given."""
    options = parse_options(OracleOptions, args, "muzero oracle")
    if options.figure:
        check_file(Path(options.figure), "--figure", "PNG")
    prepare_jax()
    from muzero_jax.envs.registry import make_environment
    from muzero_jax.tabular.oracle.dynamic_programming import solve
    from muzero_jax.tabular.processes.environments import underlying_tabular

    env = underlying_tabular(make_environment(options.environment))
    if env is None:
        told = f"{options.environment} is not tabular, so nothing is known of it exactly"
        raise ConfigError(f"{told}; `muzero list` shows the environments that are.")
    mdp = dataclasses.replace(env.mdp, discount=options.discount or env.mdp.discount)
    if options.figure and mdp.grid is None:
        raise ConfigError(f"{mdp.name} does not lie on a grid; leave out --figure.")
    size = f"{mdp.num_states} states, {mdp.num_actions} actions"
    if mdp.num_states >= _LARGE:
        announce(f"solving {options.environment} exactly: {size}")
    _show(options, mdp, solve(mdp))


def _show(options: OracleOptions, mdp: "TabularMDP", solution: "Solution") -> None:
    """Draws a map of the values where there is a grid, and prints them."""
    from muzero_jax.tabular.value_maps import ValueMap, draw_value_map, text_map

    actions = [row.nonzero()[0].tolist() for row in solution.optimal_actions]
    optimum = solution.optimal_return
    drawn = None
    if mdp.grid is not None:
        title = f"{mdp.name}: optimal return {optimum:.4f}"
        drawn = ValueMap(title, mdp.grid, solution.value, solution.optimal_actions)
    if options.figure and drawn is not None:
        draw_value_map(drawn, Path(options.figure))
    sizes = {"num_states": mdp.num_states, "num_actions": mdp.num_actions}
    facts = {"environment": options.environment, **sizes, "discount": mdp.discount}
    if options.json:
        value = {"value": solution.value.tolist(), "optimal_actions": actions}
        return print(json.dumps({**facts, "optimal_return": optimum, **value}))
    for name, fact in facts.items():
        print(f"{name:15} {fact}")
    print(f"optimal_return  {optimum:.12f}")
    if drawn is not None and drawn.grid.shape[1] <= _MOST_COLUMNS:
        return print(text_map(drawn))
    print(f"{'state':>6} {'value':>10}  optimal actions")
    for state, value in enumerate(solution.value[:_MOST_STATES]):
        print(f"{state:>6} {value:>10.6f}  {' '.join(map(str, actions[state]))}")
    if mdp.num_states > _MOST_STATES:
        print(f"... and {mdp.num_states - _MOST_STATES} states more; --json gives them all.")
    return None
