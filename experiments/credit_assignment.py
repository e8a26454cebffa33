"""Backups until a given model is solved, by their order (docs/tabular.md, H3-a and H3-c).

The model is complete and the backups are the same; only what is backed up next differs. First on
the deep sea, the chain and the maze, until the greedy policy is optimal; then on random processes
of a given fan-in and fan-out, until the values of the first layer are right to 0.02.

    python experiments/credit_assignment.py [--seeds 30] [--out DIR]
"""

import functools
import itertools

import numpy as np

from muzero_jax.tabular.presets import tabular

CONFIG = tabular("credit_assignment", "deep_sea:size=20", "prioritised_sweeping")

ORDERS = ("prioritised", "uniform", "forward_sweeps", "backward_sweeps")
SIZES, FANS = (10, 20, 40), (1, 4, 16)
TASKS = {
    "deep_sea": ("deep_sea:size={size}:mapping_seed={seed}:discount=0.99", SIZES),
    "chain": ("chain:length={size}", SIZES),
    "maze": ("maze", (36,)),
}


@functools.cache
def processes(name, size, num_seeds):
    """One process a seed; a process without anything random is the same for all."""
    from muzero_jax.envs.registry import make_environment
    from muzero_jax.tabular.processes.environments import underlying_tabular

    names = [name.format(size=size, seed=seed) for seed in range(num_seeds)]
    return [underlying_tabular(make_environment(full)).mdp for full in names]


def count(mdps, order, is_good):
    """Backups `[num_seeds]` in one order, of all processes side by side."""
    import jax
    import jax.numpy as jnp

    from muzero_jax.tabular.oracle.backup_orders import count_backups
    from muzero_jax.tabular.outcomes import table_of

    tables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(table_of, mdps))
    return count_backups(tables, mdps[0].discount, order, is_good)


def greedy_is_optimal(mdps):
    """Whether the greedy policies of `[n, S, A]` values are optimal."""
    from muzero_jax.tabular.oracle.dynamic_programming import policy_return, solve

    best = [solve(mdp).optimal_return for mdp in mdps]

    def is_good(qvalues):
        policies = qvalues.argmax(axis=-1)
        reached = [policy_return(m, p, num_steps=100) for m, p in zip(mdps, policies, strict=True)]
        return np.array(reached) >= 0.99 * np.array(best)

    return is_good


def first_layer_is_right(mdps):
    """Whether the values where episodes start are right to 0.02 in the root mean square."""
    from muzero_jax.tabular.oracle.dynamic_programming import solve

    exact = np.stack([solve(mdp).value for mdp in mdps])
    starts = mdps[0].start > 0

    def is_good(qvalues):
        error = (qvalues.max(axis=-1) - exact)[:, starts]
        return np.sqrt(np.mean(np.square(error), axis=1)) <= 0.02

    return is_good


def study(files, num_seeds):
    """Counts backups; writes a row for each process and order, and draws medians."""
    from muzero_jax.core.stages import each

    solved, branching = {}, {}
    sized = [(task, size) for task, (_, sizes) in TASKS.items() for size in sizes]
    for (task, size), order in each(list(itertools.product(sized, ORDERS)), "arms"):
        mdps = processes(TASKS[task][0], size, num_seeds)
        numbers = count(mdps, order, greedy_is_optimal(mdps))
        solved[task, size, order] = numbers
        print(f"{task} {size}, {order}: median {np.median(numbers):,.0f}", flush=True)
    fans = list(itertools.product(FANS, FANS, ORDERS[:2]))
    for fan_in, fan_out, order in each(fans, "arms on random processes"):
        name = f"random_mdp:fan_in={fan_in}:fan_out={fan_out}:seed={{seed}}"
        mdps = processes(name, 0, num_seeds)
        branching[fan_in, fan_out, order] = count(mdps, order, first_layer_is_right(mdps))
    columns = ("task", "size", "order"), ("fan_in", "fan_out", "order")
    for cells, names, suffix in ((solved, columns[0], ""), (branching, columns[1], "_branching")):
        rows = [
            {**dict(zip(names, cell, strict=True)), "seed": seed, "backups": float(number)}
            for cell, numbers in cells.items()
            for seed, number in enumerate(numbers)
        ]
        files.write_rows(rows, suffix)
    draw(files, solved, branching)


def draw(files, solved, branching):
    """Backups against the size, and how many times fewer sweeping backwards needs by branching."""
    from muzero_jax.tabular.study_plots import Line, Panel, draw_panels, median_line

    x = np.array(SIZES)
    panels = [
        Panel(
            f"{task}: backups until optimal",
            "size",
            "backups",
            [
                median_line(order, x, np.stack([solved[task, n, order] for n in SIZES], axis=1))
                for order in ORDERS
            ],
            log_y=True,
            log_x=True,
            markers=True,
        )
        for task in ("deep_sea", "chain")
    ]
    fans = np.array(FANS)

    def gain(fan_in, fan_out):
        forward, backward = (
            np.median(branching[fan_in, fan_out, order]) for order in ("uniform", "prioritised")
        )
        return forward / backward

    lines = [Line(f"fan-out {b}", fans, np.array([gain(int(a), b) for a in fans])) for b in FANS]
    title = "random: uniform over prioritised backups"
    panels.append(
        Panel(
            title, "fan-in", "ratio", lines, (("equal", 1.0),), log_x=True, log_y=True, markers=True
        )
    )
    draw_panels(panels, files.figure())


if __name__ == "__main__":
    from muzero_jax.cli.study import run_study

    run_study(__file__, __doc__, study, seeds=30)
