"""Tabular MuZero on the maze as its first author ran it: simulations against n-step returns.

4 x 4 settings of 50,000 steps (https://github.com/wulfebw/muzero), with the returns as they were
logged there, and beside them the exact ones: see docs/tabular.md.

    python experiments/maze_simulations.py [--seeds 20] [--out DIR]
"""

import dataclasses
from pathlib import Path

import numpy as np

from muzero_jax.config import ReplayConfig, SearchConfig, TargetConfig, TrainingConfig
from muzero_jax.settings import apply_settings
from muzero_jax.tabular.presets import tabular
from muzero_jax.tabular.settings import TableConfig

SIMULATIONS, STEPS = (50, 20, 10, 5), (2, 4, 8, 16)

# Acts by the Q-values of a PUCT search that takes the unknown for an end, ever more greedily, and
# makes one update after each batch of 100 steps, whose last episode is cut: model and counts from
# all of them, values from 100 windows drawn with replacement.
CONFIG = dataclasses.replace(
    tabular("maze_simulations", "maze"),
    table=TableConfig(unknown="pessimistic", prior="action", step_size=0.1),
    search=SearchConfig(
        policy="muzero",
        engine="linear",
        num_simulations=50,
        q_normalisation="none",
        action_policy="qvalues",
        temperature=10.0,
        final_temperature=1e-4,
        temperature_decay="exponential",
        dirichlet_fraction=0.0,
        pb_c_base=20_000.0,
    ),
    replay=ReplayConfig(capacity=104, min_size=100, batch_size=100, ratio=1.0),
    target=TargetConfig(discount=0.99, num_unroll_steps=0, td_steps=4, bootstrap="search"),
    training=TrainingConfig(
        num_env_steps=50_000,
        num_envs=1,
        rollout_length=100,
        iterations_per_chunk=10,
    ),
)


def setting(num_simulations, td_steps):
    """The setting of one cell; the replay holds a batch, and what its last windows need."""
    return apply_settings(
        CONFIG,
        {
            "search.num_simulations": num_simulations,
            "target.td_steps": td_steps,
            "replay.capacity": 100 + td_steps,
        },
    )


def study(files, num_seeds):
    """Trains all cells; writes the last tenth of every run, and the curves, and draws both."""
    from muzero_jax.tabular.cutting import CutEpisodes
    from muzero_jax.tabular.seed_curves import learn_curves_of

    cells = {f"{s} simulations, n = {n}": (s, n) for s in SIMULATIONS for n in STEPS}
    settings = {name: setting(*cell) for name, cell in cells.items()}
    found = learn_curves_of(settings, num_seeds, change_collect=CutEpisodes)
    curves = {cell: found[name] for name, cell in cells.items()}
    rows = [
        {
            "num_simulations": simulations,
            "td_steps": steps,
            "seed": seed,
            "logged_return": float(of_cell.metrics["episode/discounted_return"][seed, -5:].mean()),
            "greedy_return": float(of_cell.greedy_return[seed, -1]),
            "steps_to_99_percent": float(of_cell.steps_to(0.99)[seed]),
        }
        for (simulations, steps), of_cell in curves.items()
        for seed in range(num_seeds)
    ]
    files.write_rows(rows)
    draw(files, curves)
    animate(files.figure(".gif"), curves[50, 4])


def draw(files, curves):
    """Curves by simulations over all n, and the plateaus against simulations for each n."""
    from muzero_jax.tabular.study_plots import Line, Panel, draw_panels

    x = next(iter(curves.values())).env_steps

    def mean_line(label, samples):
        mean, std = samples.mean(axis=0), samples.std(axis=0)
        return Line(label, x, mean, np.stack([mean - std, mean + std]))

    def by_simulations(metric):
        together = {s: [curves[s, n].metrics[metric] for n in STEPS] for s in SIMULATIONS}
        return [mean_line(f"{s} simulations", np.concatenate(together[s])) for s in together]

    def plateau(n):
        ends = [curves[s, n].metrics["episode/discounted_return"][:, -5:] for s in SIMULATIONS]
        return np.array([end.mean() for end in ends])

    ceiling, optimum = ("optimal policy, as logged", 0.8785), ("optimal", 0.9373)
    title = "mean ± std over seeds and n"
    logged = by_simulations("episode/discounted_return")
    exact = by_simulations("oracle/greedy_return")
    levels, labels = (ceiling, optimum), ("environment steps", "discounted return")
    plateaus = [Line(f"n = {n}", np.array(SIMULATIONS), plateau(n)) for n in STEPS]
    panels = [
        Panel(f"return as logged, {title}", *labels, logged, levels),
        Panel(f"exact greedy return, {title}", *labels, exact, (optimum,)),
        Panel(
            "last tenth, as logged",
            "simulations",
            labels[1],
            plateaus,
            (ceiling,),
            log_x=True,
            markers=True,
        ),
    ]
    draw_panels(panels, files.figure())


def animate(out: Path, curves, every=4):
    """The values of one seed as they are learned, beside the optimal ones."""
    from muzero_jax.tabular.oracle.dynamic_programming import optimal_actions, solve
    from muzero_jax.tabular.processes.gridworld import maze_mdp
    from muzero_jax.tabular.value_maps import ValueMap, value_map_image
    from muzero_jax.viewing.animation import Frame, write_gif

    mdp = maze_mdp()
    solution = solve(mdp)
    best = ValueMap("exact", mdp.grid, solution.value, solution.optimal_actions)
    frames = []
    for point in [*range(0, len(curves.env_steps), every), len(curves.env_steps) - 1]:
        value = curves.value[0, point]
        greedy = optimal_actions((mdp.reward + value[mdp.next_state] * ~mdp.terminates)[..., 0])
        shown = greedy & (value != 0.0)[:, None]
        learned = ValueMap("learned", mdp.grid, value, shown)
        image = value_map_image([learned, best], (-1.0, 1.0))
        reached = f"greedy return {curves.greedy_return[0, point]:.3f}"
        frames.append(Frame(image, f"{curves.env_steps[point]:,} steps", reached, 0.25))
    write_gif(frames, out)


if __name__ == "__main__":
    from muzero_jax.cli.study import run_study

    run_study(__file__, __doc__, study, seeds=20)
