"""The folder in which compiled programs are kept between processes."""

import hashlib
import os
import platform
from pathlib import Path


def cache_folder() -> str:
    """What `MUZERO_CACHE_DIR` names, or a folder in the user's cache; empty for none.

    The latter is another for every kind of processor: compiled programs use its instructions, and
    a home folder may be shared by unlike machines.
    """
    return os.environ.get("MUZERO_CACHE_DIR", _default_folder())


def kind_of_processor() -> str:
    """Eight characters that are the same for processors with the same instructions."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(errors="replace").splitlines() if cpu_info.is_file() else []
    kind = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(f"{platform.machine()} {kind}".encode()).hexdigest()[:8]


def _default_folder() -> str:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(home / "muzero_jax" / f"xla-{kind_of_processor()}")
