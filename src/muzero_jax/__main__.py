"""`python -m muzero_jax` is the `muzero` command."""

import sys

from muzero_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
