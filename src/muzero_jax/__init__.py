"""muzero_jax: a MuZero laboratory in JAX.

Importing this package imports nothing else: the command line must print its help without loading
JAX. Use the rooms directly, for example ``from muzero_jax.training.loop import make_train``.
"""

__version__ = "0.1.0"
