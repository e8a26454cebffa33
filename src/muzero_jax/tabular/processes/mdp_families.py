"""Families of finite processes: a line, a combination lock, the deep sea, and random ones."""

from collections.abc import Mapping

import numpy as np

from muzero_jax.tabular.processes.mdp import Grid, InvalidMDPError, TabularMDP


def line_mdp(length: int = 5, discount: float = 1.0) -> TabularMDP:
    """A line that is walked from its left end to its right end.

    Action 0 goes right and action 1 left, and each step costs 1. In the last cell both actions end
    the episode: going right pays 10, going left nothing. The line of
    https://github.com/wulfebw/muzero.

    Args:
      length: number of cells, at least 2.
      discount: discount of one step.
    """
    _require_sizes("line", 2, length=length)
    cells, is_last = np.arange(length), np.arange(length) == length - 1
    right = np.minimum(cells + 1, length - 1), np.where(is_last, 10.0, -1.0), is_last
    left = np.maximum(cells - 1, 0), np.where(is_last, 0.0, -1.0), is_last
    return _row_of_cells("line", discount, {"→": right, "←": left})


def chain_mdp(length: int = 10, discount: float = 0.99, distraction: float = 0.0) -> TabularMDP:
    """A combination lock: one wrong action leads back to the start.

    Action 0 goes back to the first cell for a reward of `distraction`. Action 1 goes on, and from
    the last cell pays 1 and ends the episode. Random actions need about 2^length steps.

    Args:
      length: number of cells, at least 2.
      discount: discount of one step.
      distraction: reward of going back.
    """
    _require_sizes("chain", 2, length=length)
    cells, is_last = np.arange(length), np.arange(length) == length - 1
    back = 0 * cells, np.full(length, distraction), cells < 0
    onward = np.minimum(cells + 1, length - 1), is_last, is_last
    return _row_of_cells("chain", discount, {"↺": back, "→": onward})


def deep_sea_mdp(
    size: int = 10, *, stochastic: bool = False, mapping_seed: int = 0, discount: float = 1.0
) -> TabularMDP:
    """The deep sea (Osband et al. 2019, arXiv 1703.07608; bsuite, arXiv 1908.03568).

    Every step sinks one row. In each cell one of the two actions also goes right and costs
    0.01 / size, and the other goes left; which is which differs from cell to cell. Going right in
    the bottom right corner pays 1, so the best return is 0.99, and a random walk finds it once in
    2^size episodes. The states are the size (size + 1) / 2 cells that can be reached.

    Args:
      size: number of rows, at least 2.
      stochastic: whether going right fails with probability 1 / size, and then goes left.
      mapping_seed: seed of the meanings of the actions; -1: action 1 goes right in every cell.
      discount: discount of one step.
    """
    _require_sizes("deep_sea", 2, size=size)
    cells = tuple((row, column) for row in range(size) for column in range(row + 1))
    rows, columns = np.array(cells).T
    below = np.minimum(rows + 1, size - 1)  # The last step leads out of the grid, to any state.
    first = below * (below + 1) // 2
    left, right = first + np.maximum(columns - 1, 0), first + np.minimum(columns + 1, below)
    is_last = rows == size - 1
    treasure = (is_last & (columns == size - 1)).astype(float)
    nothing, cost = np.zeros_like(treasure), 0.01 / size
    failure, num_outcomes = (1.0 / size, 2) if stochastic else (0.0, 1)
    flipped = np.zeros(len(cells), bool)
    if mapping_seed >= 0:
        flipped = np.random.PCG64(mapping_seed).random_raw(len(cells)) % 2 == 1

    def outcomes(*columns: np.ndarray) -> np.ndarray:
        """`[S, 2, K]` from two columns of going left, and of going right in success and failure."""
        table = np.stack(np.broadcast_arrays(*columns), axis=1).reshape((-1, 2, 2))
        return np.where(flipped[:, None, None], table[:, ::-1], table)[..., :num_outcomes]

    likely = outcomes(nothing + 1.0, nothing, nothing + (1.0 - failure), nothing + failure)
    return TabularMDP(
        name="deep_sea",
        next_state=outcomes(left, left, right, left),
        probability=likely,
        reward=outcomes(nothing, nothing, treasure - cost, nothing - cost),
        terminates=np.broadcast_to(is_last[:, None, None], likely.shape),
        start=np.arange(len(cells)) == 0,
        discount=discount,
        goal=len(cells) - 1,
        grid=Grid((size, size), cells, tuple("↘↙" if other else "↙↘" for other in flipped)),
    )


def random_mdp(
    num_states: int = 16,
    num_actions: int = 4,
    *,
    fan_in: int = 4,
    fan_out: int = 1,
    seed: int = 0,
    discount: float = 0.99,
) -> TabularMDP:
    """Two layers of states with a given branching in both directions (arXiv 2010.13685).

    An episode starts in one of the `num_states` states of the first layer, each equally likely. An
    action there leads to one of `fan_out` states of the second layer, which has
    `num_states * num_actions * fan_out / fan_in` states; `fan_in` pairs of a state and an action
    lead to each of them. In the second layer every action ends the episode, with a reward from
    [0, 1) of its own.

    Args:
      num_states: number of states of the first layer.
      num_actions: number of actions in both layers.
      fan_in: number of pairs that lead to a state of the second layer.
      fan_out: number of states that a pair may lead to, with random probabilities.
      seed: seed of everything random.
      discount: discount of one step.
    """
    sizes = {"num_states": num_states, "num_actions": num_actions}
    _require_sizes("random_mdp", 1, **sizes, fan_in=fan_in, fan_out=fan_out)
    num_edges = num_states * num_actions * fan_out
    num_second = num_edges // fan_in
    if num_edges % fan_in or num_second < fan_out:
        raise InvalidMDPError(
            f"random_mdp: num_states * num_actions * fan_out ({num_edges}) must be a multiple of "
            f"fan_in with at least fan_out ({fan_out}) as quotient, found fan_in {fan_in}."
        )
    rng = np.random.default_rng(seed)
    shape = (num_states + num_second, num_actions, fan_out)
    first = np.arange(shape[0]) < num_states
    next_state, probability, reward = np.zeros(shape, int), np.zeros(shape), np.zeros(shape)
    # Walking round the second layer gives each pair different successors, and each its fan-in.
    order = num_states + rng.permutation(num_second)
    around = order[np.arange(num_edges) % num_second].reshape((-1, fan_out))
    next_state[first] = rng.permutation(around).reshape((num_states, num_actions, fan_out))
    probability[first] = rng.dirichlet(np.ones(fan_out), size=(num_states, num_actions))
    probability[~first, :, 0] = 1.0
    reward[~first, :, 0] = rng.random((num_second, num_actions))
    return TabularMDP(
        name="random_mdp",
        next_state=next_state,
        probability=probability,
        reward=reward,
        terminates=np.broadcast_to(~first[:, None, None], shape),
        start=first / num_states,
        discount=discount,
    )


def _require_sizes(name: str, least: int, **sizes: int) -> None:
    for option, value in sizes.items():
        if not isinstance(value, int) or value < least:
            raise InvalidMDPError(
                f"{name}: {option} must be an integer of at least {least}, found {value!r}."
            )


def _row_of_cells(
    name: str, discount: float, actions: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> TabularMDP:
    """A process on a row of cells, which begins in the first cell and has its goal in the last.

    The next states, the rewards and the ends of every action, `[length]` each, are given by the
    arrow that shows the action.
    """
    columns = zip(*actions.values(), strict=True)
    next_state, reward, terminates = (np.stack(column, axis=1) for column in columns)
    length = len(next_state)
    cells = tuple((0, column) for column in range(length))
    arrows = ("".join(actions),) * length
    return TabularMDP(
        name=name,
        next_state=next_state,
        probability=np.ones(next_state.shape),
        reward=reward,
        terminates=terminates,
        start=np.arange(length) == 0,
        discount=discount,
        goal=length - 1,
        grid=Grid((1, length), cells, arrows, marks=((length - 1, "G"),)),
    )
