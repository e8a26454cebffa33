"""Replay against a model of the same data, both tables: a negative control.

5,000 steps of a random walk are given. Q-learning replays them; a model learned from them is asked
for the same pairs, or for others. A table generalises nothing, so that any difference is that of
the sampling (hypothesis H1-a, docs/tabular.md).

    python experiments/replay_is_a_model.py [--seeds 30] [--out DIR]
"""

import functools
import itertools

import numpy as np

from muzero_jax.tabular.presets import tabular

CONFIG = tabular("replay_is_a_model", "maze", "dyna_q")

TASKS = ("maze", "deep_sea:size=8:discount=0.99", "chain:length=8")
NUM_STEPS = 5_000
# What is backed up: stored steps, the model's answers for the same pairs, and other choices.
ARMS = {
    "replay of stored steps": "stored_steps",
    "model, the same pairs": "stored_pairs",
    "model, each known pair alike": "uniform",
    "model, prioritised": "prioritised",
}


def walks(env, num_seeds):
    """The steps `[num_seeds, NUM_STEPS]` of random walks."""
    import jax

    from muzero_jax.tabular.oracle.backup_orders import random_steps

    keys = jax.random.split(jax.random.key(0), num_seeds)
    return jax.jit(jax.vmap(functools.partial(random_steps, env, num_steps=NUM_STEPS)))(keys)


def study(files, num_seeds):
    """Counts updates until the greedy policy is optimal; writes a row for each walk and arm."""
    from muzero_jax.core.stages import each

    rows, counts = [], {}
    for task, arm in each(list(itertools.product(TASKS, ARMS)), "arms"):
        mdp, steps = given_steps(task, num_seeds)
        counts[task, arm] = updates(mdp, steps, ARMS[arm])
        print(f"{task}, {arm}: median {np.median(counts[task, arm]):,.0f} updates", flush=True)
        rows += [
            {"task": task, "arm": arm, "seed": seed, "updates": float(number)}
            for seed, number in enumerate(counts[task, arm])
        ]
    files.write_rows(rows)
    draw(files, counts)


@functools.cache
def given_steps(task, num_seeds):
    """A task's process, and the steps that all arms are given."""
    from muzero_jax.envs.registry import make_environment
    from muzero_jax.tabular.processes.environments import underlying_tabular

    env = underlying_tabular(make_environment(task))
    return env.mdp, walks(env, num_seeds)


def updates(mdp, steps, order):
    """Updates `[num_seeds]` of one arm, from given walks."""
    import jax

    from muzero_jax.tabular.oracle.backup_orders import count_backups
    from muzero_jax.tabular.oracle.dynamic_programming import policy_return, solve
    from muzero_jax.tabular.outcomes import count_steps, empty_table

    best = solve(mdp).optimal_return
    empty = empty_table(mdp.num_states, mdp.num_actions, mdp.num_outcomes)
    tables = jax.vmap(count_steps, in_axes=(None, 0))(empty, steps)

    def is_good(qvalues):
        policies = qvalues.argmax(axis=-1)
        return np.array([policy_return(mdp, p) >= 0.99 * best for p in policies])

    given = {"is_good": is_good, "steps": steps, "most": 200_000}
    return count_backups(tables, mdp.discount, order, **given)


def draw(files, counts):
    """Medians with quartiles, side by side for each task."""
    from muzero_jax.tabular.study_plots import Panel, draw_panels, median_line

    places = np.arange(len(TASKS))
    lines = [
        median_line(
            arm,
            places + 0.12 * (number - 1.5),
            np.stack([counts[task, arm] for task in TASKS], axis=1),
        )
        for number, arm in enumerate(ARMS)
    ]
    names = [task.partition(":")[0] for task in TASKS]
    title = "updates until the greedy policy is optimal"
    draw_panels([Panel(title, "", "updates", lines, log_y=True, ticks=names)], files.figure())


if __name__ == "__main__":
    from muzero_jax.cli.study import run_study

    run_study(__file__, __doc__, study, seeds=30)
