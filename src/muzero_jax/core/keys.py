"""The keys of a run, all made from its seed."""

import jax

from muzero_jax.core.types import PRNGKey


def run_keys(seed: int) -> tuple[PRNGKey, PRNGKey]:
    """The key of training, and the one from which those of its evaluations are made.

    Two branches, so that evaluations cannot touch the randomness of training.
    """
    train_key, evaluation_key = jax.random.split(jax.random.key(seed))
    return train_key, evaluation_key


def evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """The key of a run's own evaluation after `num_env_steps` environment steps."""
    return _fold_in_steps(run_keys(seed)[1], num_env_steps)


def fresh_evaluation_key(seed: int, num_env_steps: int) -> PRNGKey:
    """A key for later evaluations, with which none repeats an evaluation of any run itself.

    Args:
      seed: of the evaluation.
      num_env_steps: that the agent was trained for.
    """
    # Splitting a key in two is folding in 0 and 1: those are the branches of `run_keys`.
    return _fold_in_steps(jax.random.fold_in(jax.random.key(seed), 2), num_env_steps)


def _fold_in_steps(rng_key: PRNGKey, num_env_steps: int) -> PRNGKey:
    """Folds a number of steps in, of which JAX takes 32 bits at a time."""
    high, low = divmod(num_env_steps, 2**32)
    rng_key = jax.random.fold_in(rng_key, low)
    return jax.random.fold_in(rng_key, high) if high else rng_key
