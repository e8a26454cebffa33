"""The keys of a run, all made from its seed."""

import jax

from muzero_jax.types import PRNGKey


def run_keys(seed: int) -> tuple[PRNGKey, PRNGKey]:
    """The key of training, and the one from which those of its evaluations are made.

    Two branches, so that evaluations cannot touch the randomness of training.
    """
    train_key, evaluation_key = jax.random.split(jax.random.key(seed))
    return train_key, evaluation_key


def evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """The key of a run's own evaluation after `num_env_steps` environment steps."""
    return jax.random.fold_in(run_keys(seed)[1], num_env_steps)


def fresh_evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """A key for later evaluations, with which none repeats an evaluation of any run itself.

    Args:
      seed: of the evaluation.
      num_env_steps: that the agent was trained for.
    """
    # Splitting a key in two is folding in 0 and 1: those are the branches of `run_keys`.
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2), num_env_steps)
