"""The deep sea of 10 rows with networks: one path of many pays, and random play hardly finds it."""

from muzero_jax.presets import vector_task

CONFIG = vector_task("deep_sea", "deep_sea:size=10")

if __name__ == "__main__":
    from muzero_jax.cli import train_experiment

    train_experiment(CONFIG)
