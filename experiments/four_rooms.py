"""FourRooms (gymnax): walk to a goal through doors; 1 for reaching it within 500 steps."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("four_rooms", "gymnax:FourRooms-misc")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
