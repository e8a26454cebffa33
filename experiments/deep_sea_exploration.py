"""Episodes to solve the deep sea against its size: deep exploration, or dithering?

Planning with three readings of the unknown, epsilon-greedy Q-learning and R-max: hypothesis H2-b of
docs/tabular.md. An exponent of 1 in the table means that each row doubles the episodes.

    python experiments/deep_sea_exploration.py [--seeds 30] [--out DIR]
"""

import numpy as np

from muzero_jax.settings import apply_settings
from muzero_jax.tabular.presets import tabular

SIMULATIONS = {"search.num_simulations": 2}
CONFIG = apply_settings(tabular("deep_sea_exploration", "deep_sea:size=10"), SIMULATIONS)

SMALL, LARGE = (2, 3, 4, 6), (4, 6, 8, 10, 12, 15, 20, 30)
NOISE = {"search.gumbel_scale": 1.0, "exploration.epsilon": 0.1, "table.initial_value": 0.0}
RANDOM = {"exploration.epsilon": 1.0}
# Learner, settings, sizes and the most episodes of each arm.
ARMS = {
    "optimistic MuZero": ("table_muzero", {}, LARGE, 400),
    "R-max": ("rmax", {}, LARGE, 400),
    "self-loop MuZero": ("table_muzero", NOISE | {"table.unknown": "self_loop"}, SMALL, 500),
    "pessimistic MuZero": ("table_muzero", NOISE | {"table.unknown": "pessimistic"}, SMALL, 500),
    "Q-learning, epsilon 0.1": ("q_learning", {"exploration.epsilon": 0.1}, SMALL, 500),
    "Q-learning, random actions": (
        "q_learning",
        {"exploration.epsilon": 1.0},
        (2, 4, 6, 8, 10),
        3_000,
    ),
}


def setting(kind, changes, size, num_episodes):
    """One arm at one size; a chunk is an episode of as many steps as the sea has rows."""
    base = tabular("deep_sea", f"deep_sea:size={size}", kind)
    shape = {
        "training.iterations_per_chunk": size,
        "training.num_env_steps": size * num_episodes,
    }
    shape |= SIMULATIONS if kind == "table_muzero" else {}
    return apply_settings(base, shape | changes)


def study(files, num_seeds):
    """Trains all arms until the greedy policy is optimal; writes episodes, draws medians."""
    from muzero_jax.tabular.seed_curves import learn_curves_of

    cells = {
        f"{name}, size {size}": (name, size)
        for name, (_, _, sizes, _) in ARMS.items()
        for size in sorted(sizes, reverse=True)
    }
    configs = {}
    for cell, (name, size) in cells.items():
        kind, changes, _, num_episodes = ARMS[name]
        configs[cell] = setting(kind, changes, size, num_episodes)
    found = learn_curves_of(configs, num_seeds, solved=lambda greedy_return: greedy_return > 0.9)
    episodes = {place: found[cell].steps_to(0.99) / place[1] for cell, place in cells.items()}
    rows = [
        {"arm": name, "size": size, "seed": seed, "episodes": float(number)}
        for (name, size), numbers in episodes.items()
        for seed, number in enumerate(numbers)
    ]
    files.write_rows(rows)
    slopes = [exponent(name, sizes, episodes) for name, (_, _, sizes, _) in ARMS.items()]
    files.write_rows(slopes, "_exponents")
    draw(files, episodes)


def exponent(name, sizes, episodes):
    """The slope of log2 of the median episodes against the size, where the median is known."""
    from muzero_jax.tabular.study_plots import quartiles

    medians = np.array([quartiles(episodes[name, size])[1] for size in sizes])
    known = np.isfinite(medians)
    slope = np.nan
    if known.sum() >= 2:
        slope = np.polyfit(np.array(sizes)[known], np.log2(medians[known]), 1)[0]
    return {"arm": name, "sizes": int(known.sum()), "log2_episodes_per_row": float(slope)}


def draw(files, episodes):
    """Medians over seeds with quartiles, against the size."""
    from muzero_jax.tabular.study_plots import Line, Panel, draw_panels, median_line

    lines = [
        median_line(name, np.array(sizes), np.stack([episodes[name, s] for s in sizes], axis=1))
        for name, (_, _, sizes, _) in ARMS.items()
    ]
    x = np.array(LARGE)
    lines += [Line("2^N", x[:4], 2.0 ** x[:4]), Line("2 N", x, 2.0 * x)]
    panel = Panel(
        "episodes until the greedy policy is optimal",
        "rows N of the deep sea",
        "episodes",
        lines,
        log_y=True,
        markers=True,
    )
    draw_panels([panel], files.figure())


if __name__ == "__main__":
    from muzero_jax.cli.study import run_study

    run_study(__file__, __doc__, study, seeds=30)
