"""`muzero oracle`: the exact optimum of a tabular environment."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_jax.config import ConfigError
from muzero_jax.core.output_paths import check_file
from muzero_jax.core.stages import announce

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
    discount: float = 0.0
    """Discount of one step, in (0, 1]; 0 takes the environment's own discount."""
    figure: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """PNG file for a picture of the values and actions."""
    json: bool = False
    """Print one JSON object."""


def show_oracle(options: OracleOptions) -> None:
    """Prints the optimum of the environment, and draws it if `--figure` is given.

    Raises:
      ConfigError: the environment is not tabular, or the discount is out of range.
      EnvironmentCreationError: the environment cannot be made.
    """
    if not 0.0 <= options.discount <= 1.0:
        raise ConfigError(f"--discount must be between 0 and 1, found {options.discount!r}.")
    if options.figure:
        check_file(Path(options.figure), "--figure", "PNG")
    from muzero_jax.process.jax_process import prepare_jax

    prepare_jax()
    from muzero_jax.envs.registry import make_environment
    from muzero_jax.tabular.oracle.dynamic_programming import solve
    from muzero_jax.tabular.processes.environments import underlying_tabular

    env = underlying_tabular(make_environment(options.environment))
    if env is None:
        raise ConfigError(
            f"{options.environment} is not tabular, so nothing is known of it exactly; "
            "`muzero list` shows the environments that are."
        )
    mdp = dataclasses.replace(env.mdp, discount=options.discount or env.mdp.discount)
    if options.figure and mdp.grid is None:
        raise ConfigError(f"{mdp.name} does not lie on a grid; leave out --figure.")
    size = f"{mdp.num_states} states, {mdp.num_actions} actions"
    if mdp.num_states >= _LARGE:
        announce(f"solving {options.environment} exactly: {size}")
    solution = solve(mdp)
    if options.figure:
        _draw(mdp, solution, Path(options.figure))
    if options.json:
        return print(json.dumps(_as_dict(options.environment, mdp, solution)))
    print(f"environment     {options.environment}")
    print(f"states          {mdp.num_states}, {mdp.num_actions} actions")
    print(f"discount        {mdp.discount:g}")
    print(f"optimal_return  {solution.optimal_return:.12f}")
    return print(_text(mdp, solution))


def _as_dict(name: str, mdp: "TabularMDP", solution: "Solution") -> dict[str, object]:
    return {
        "environment": name,
        "num_states": mdp.num_states,
        "num_actions": mdp.num_actions,
        "discount": mdp.discount,
        "optimal_return": solution.optimal_return,
        "value": solution.value.tolist(),
        "optimal_actions": [row.nonzero()[0].tolist() for row in solution.optimal_actions],
    }


def _text(mdp: "TabularMDP", solution: "Solution") -> str:
    """A map of the values where there is room for one, or a table of the first states."""
    from muzero_jax.tabular.value_maps import ValueMap, text_map

    if mdp.grid is not None and mdp.grid.shape[1] <= _MOST_COLUMNS:
        return text_map(ValueMap("", mdp.grid, solution.value, solution.optimal_actions))
    lines = [f"{'state':>6} {'value':>10}  optimal actions"]
    for state in range(min(mdp.num_states, _MOST_STATES)):
        actions = " ".join(map(str, solution.optimal_actions[state].nonzero()[0]))
        lines.append(f"{state:>6} {solution.value[state]:>10.6f}  {actions}")
    left_out = mdp.num_states - _MOST_STATES
    if left_out > 0:
        lines.append(f"... and {left_out} states more; --json gives them all.")
    return "\n".join(lines)


def _draw(mdp: "TabularMDP", solution: "Solution", out: Path) -> None:
    from muzero_jax.tabular.value_maps import ValueMap, draw_value_map

    assert mdp.grid is not None
    title = f"{mdp.name}: optimal return {solution.optimal_return:.4f}"
    draw_value_map(ValueMap(title, mdp.grid, solution.value, solution.optimal_actions), out)
