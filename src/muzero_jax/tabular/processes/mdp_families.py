"""Families of finite processes: a line, a combination lock, the deep sea, and random ones."""

import numpy as np

from muzero_jax.tabular.processes.mdp import Grid, InvalidMDPError, TabularMDP


def line_mdp(length: int = 5, discount: float = 1.0) -> TabularMDP:
    """A line that is walked from its left to its right end.

    Action 0 goes right and action 1 left; each step costs 1, and going right from the last cell
    pays 10 and ends the episode (going left from there ends it without). The line of
    https://github.com/wulfebw/muzero.

    Args:
      length: cells, at least 2.
      discount: of one step.
    """
    _require_size("line", "length", length)
    cells = np.arange(length)
    next_state = np.stack([np.minimum(cells + 1, length - 1), np.maximum(cells - 1, 0)], axis=1)
    is_last = np.repeat((cells == length - 1)[:, None], 2, axis=1)
    return _deterministic(
        "line",
        next_state=next_state,
        reward=np.where(is_last, [10.0, 0.0], -1.0),
        terminates=is_last,
        discount=discount,
        goal=length - 1,
        grid=_row(length, "→←"),
    )


def chain_mdp(length: int = 10, discount: float = 0.99, distraction: float = 0.0) -> TabularMDP:
    """A combination lock: one wrong action, and one is back at the start.

    Action 0 goes back to the first cell for a reward of `distraction`; action 1 goes on, and from
    the last cell pays 1 and ends the episode. Random actions need about 2^length steps.

    Args:
      length: cells, at least 2.
      discount: of one step.
      distraction: reward of going back.
    """
    _require_size("chain", "length", length)
    cells = np.arange(length)
    is_last = cells == length - 1
    onward = np.minimum(cells + 1, length - 1)
    return _deterministic(
        "chain",
        next_state=np.stack([np.zeros_like(cells), onward], axis=1),
        reward=np.stack([np.full(length, distraction), is_last.astype(float)], axis=1),
        terminates=np.stack([np.zeros(length, bool), is_last], axis=1),
        discount=discount,
        goal=length - 1,
        grid=_row(length, "↺→"),
    )


def deep_sea_mdp(
    size: int = 10,
    *,
    stochastic: bool = False,
    mapping_seed: int = 0,
    discount: float = 1.0,
) -> TabularMDP:
    """The deep sea (Osband et al. 2019, arXiv 1703.07608; bsuite, arXiv 1908.03568).

    Every step sinks one row; in each cell one of the two actions also goes right, and costs
    0.01 / size, the other goes left. Which is which differs from cell to cell. Going right in the
    bottom right corner pays 1, so that the best return is 0.99, and a random walk finds it once in
    2^size episodes. The states are the size (size + 1) / 2 cells that can be reached.

    Args:
      size: rows, at least 2.
      stochastic: going right fails with probability 1 / size, and then goes left.
      mapping_seed: of what the actions mean in each cell; -1: action 1 always goes right.
      discount: of one step.
    """
    _require_size("deep_sea", "size", size)
    cells = tuple((row, column) for row in range(size) for column in range(row + 1))
    rows, columns = np.array(cells).T

    def number(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        # The last step leads out of the grid; where to is of no account.
        row = np.minimum(row, size - 1)
        return row * (row + 1) // 2 + np.minimum(column, row)

    left, right = (
        number(rows + 1, np.maximum(columns - 1, 0)),
        number(rows + 1, columns + 1),
    )
    is_last = rows == size - 1
    treasure = (is_last & (columns == size - 1)).astype(float)
    cost = 0.01 / size
    # Outcomes 0 and 1 of going right: it succeeds, or it fails and still costs.
    failure = 1.0 / size if stochastic else 0.0
    next_state = np.stack([np.stack([left, left], 1), np.stack([right, left], 1)], axis=1)
    nothing = np.zeros_like(treasure)
    reward = np.stack(
        [np.stack([nothing, nothing], 1), np.stack([treasure - cost, nothing - cost], 1)], axis=1
    )
    probability = np.broadcast_to([[1.0, 0.0], [1.0 - failure, failure]], next_state.shape)
    arrows = ("↙↘",) * len(cells)
    if mapping_seed >= 0:
        flipped = np.random.PCG64(mapping_seed).random_raw(len(cells)) % 2 == 1
        next_state[flipped] = next_state[flipped][:, ::-1]
        reward[flipped] = reward[flipped][:, ::-1]
        probability = np.where(flipped[:, None, None], probability[:, ::-1], probability)
        arrows = tuple("↘↙" if other_way else "↙↘" for other_way in flipped)
    num_outcomes = 2 if stochastic else 1
    return TabularMDP(
        name="deep_sea",
        next_state=next_state[..., :num_outcomes],
        probability=probability[..., :num_outcomes],
        reward=reward[..., :num_outcomes],
        terminates=np.broadcast_to(is_last[:, None, None], (len(cells), 2, num_outcomes)),
        start=np.arange(len(cells)) == 0,
        discount=discount,
        goal=len(cells) - 1,
        grid=Grid((size, size), cells, arrows),
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

    Each of the `num_states` states of the first layer starts an episode as often. An action there
    leads to one of `fan_out` states of the second layer, which has
    `num_states * num_actions * fan_out / fan_in` states, each led to by `fan_in` pairs of a state
    and an action. From there every action ends the episode, with a reward from [0, 1) of its own.

    Args:
      num_states: of the first layer.
      num_actions: of both layers.
      fan_in: pairs that lead to a state of the second layer.
      fan_out: states that a pair may lead to, with random probabilities.
      seed: of everything random.
      discount: of one step.
    """
    for option, value in {
        "num_states": num_states,
        "num_actions": num_actions,
        "fan_in": fan_in,
        "fan_out": fan_out,
    }.items():
        _require_size("random_mdp", option, value, least=1)
    num_edges = num_states * num_actions * fan_out
    num_second = num_edges // fan_in
    if num_edges % fan_in or num_second < fan_out:
        raise InvalidMDPError(
            f"random_mdp: num_states * num_actions * fan_out ({num_edges}) must be a multiple of "
            f"fan_in with at least fan_out ({fan_out}) as quotient, found fan_in {fan_in}."
        )
    rng = np.random.default_rng(seed)
    total = num_states + num_second
    shape = (total, num_actions, fan_out)
    first = np.arange(total) < num_states
    next_state = np.zeros(shape, int)
    # Walking round the second layer gives each pair different successors, and each its fan-in.
    order = num_states + rng.permutation(num_second)
    around = order[np.arange(num_edges) % num_second].reshape((-1, fan_out))
    next_state[first] = rng.permutation(around).reshape((num_states, num_actions, fan_out))
    probability = np.zeros(shape)
    probability[first] = rng.dirichlet(np.ones(fan_out), size=(num_states, num_actions))
    probability[~first, :, 0] = 1.0
    reward = np.zeros(shape)
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


def _require_size(name: str, option: str, value: int, least: int = 2) -> None:
    if not isinstance(value, int) or value < least:
        raise InvalidMDPError(
            f"{name}: {option} must be an integer of at least {least}, found {value!r}."
        )


def _deterministic(
    name: str,
    *,
    next_state: np.ndarray,
    reward: np.ndarray,
    terminates: np.ndarray,
    discount: float,
    goal: int,
    grid: Grid,
) -> TabularMDP:
    """From arrays `[S, A]`; the first state is the start."""
    return TabularMDP(
        name=name,
        next_state=next_state[..., None],
        probability=np.ones((*next_state.shape, 1)),
        reward=reward[..., None],
        terminates=terminates[..., None],
        start=np.arange(len(next_state)) == 0,
        discount=discount,
        goal=goal,
        grid=grid,
    )


def _row(length: int, arrows: str) -> Grid:
    cells = tuple((0, column) for column in range(length))
    return Grid((1, length), cells, (arrows,) * length, marks=((length - 1, "G"),))
