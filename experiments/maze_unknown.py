"""What should planning take the unknown for? Tabular MuZero on the maze, with three answers.

The same search, learner and budget: only `table.unknown` differs (docs/tabular.md, H2-a).

    python experiments/maze_unknown.py [--seeds 30] [--out DIR]
"""

from muzero_jax.settings import apply_settings
from muzero_jax.tabular.presets import tabular

CONFIG = apply_settings(tabular("maze_unknown", "maze"), {"training.num_env_steps": 5_000})

# Without optimism something else must make the agent try what it does not know.
NOISE = {"search.gumbel_scale": 1.0, "exploration.epsilon": 0.1}
OPTIMISTIC = {"table.unknown": "optimistic", "table.initial_value": 1.0}
PESSIMISTIC = {"table.unknown": "pessimistic", "table.initial_value": 0.0}
SELF_LOOP = {"table.unknown": "self_loop", "table.initial_value": 0.0}
ARMS = {
    "optimistic": OPTIMISTIC,
    "optimistic, noise": OPTIMISTIC | NOISE,
    "self-loop": SELF_LOOP,
    "self-loop, noise": SELF_LOOP | NOISE,
    "pessimistic": PESSIMISTIC,
    "pessimistic, noise": PESSIMISTIC | NOISE,
}
SIMULATIONS = (4, 16)


def settings():
    """All arms by name: MuZero's, and two classical learners beside them."""
    arms = {
        f"{name}, {num} simulations": apply_settings(
            CONFIG, changes | {"search.num_simulations": num}
        )
        for num in sorted(SIMULATIONS, reverse=True)
        for name, changes in ARMS.items()
    }
    same_length = {"training.num_env_steps": CONFIG.training.num_env_steps}
    greedy = {"exploration.epsilon": 0.1, **same_length}
    arms["Q-learning, epsilon 0.1"] = apply_settings(tabular("q", "maze", "q_learning"), greedy)
    arms["R-max"] = apply_settings(tabular("r", "maze", "rmax"), same_length)
    return arms


def study(files, num_seeds):
    """Trains all arms; writes a row for each seed, and draws the returns and what was tried."""
    from muzero_jax.tabular.seed_curves import learn_curves_of

    curves = learn_curves_of(settings(), num_seeds)
    rows = [
        {
            "arm": name,
            "seed": seed,
            "steps_to_99_percent": float(found.steps_to(0.99)[seed]),
            "final_greedy_return": float(found.greedy_return[seed, -1]),
            "final_value_rmse": float(found.metrics["oracle/value_rmse"][seed, -1]),
            "known_pairs": float(known_pairs(found)[seed, -1]) if counts_pairs(found) else "-",
        }
        for name, found in curves.items()
        for seed in range(num_seeds)
    ]
    files.write_rows(rows)
    draw(files, curves)


def counts_pairs(found):
    """Whether the learner counts which pairs it tried; Q-learning does not."""
    return "table/known_pairs" in found.metrics


def known_pairs(found):
    """`[num_seeds, N]` share of the pairs that were tried."""
    return found.metrics["table/known_pairs"]


def draw(files, curves):
    """Medians over seeds with quartiles, four simulations."""
    from muzero_jax.tabular.study_plots import Panel, draw_panels, median_line

    shown = {n.removesuffix(", 4 simulations"): c for n, c in curves.items() if "16" not in n}
    returns = [median_line(name, c.env_steps, c.greedy_return) for name, c in shown.items()]
    tried = [
        median_line(name, c.env_steps, known_pairs(c))
        for name, c in shown.items()
        if counts_pairs(c)
    ]
    x_label = "environment steps"
    optimum = ("optimal", 0.9373)
    panels = [
        Panel("exact greedy return", x_label, "discounted return", returns, (optimum,)),
        Panel("states and actions that were tried", x_label, "share", tried),
    ]
    draw_panels(panels, files.figure())


if __name__ == "__main__":
    from muzero_jax.cli.study import run_study

    run_study(__file__, __doc__, study, seeds=30)
