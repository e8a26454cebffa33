"""SpaceInvaders of MinAtar as gymnax has it, one million steps."""

from muzero_jax.presets import grid_task

CONFIG = grid_task("minatar_space_invaders", "gymnax:SpaceInvaders-MinAtar")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
