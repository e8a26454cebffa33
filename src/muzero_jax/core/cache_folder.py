"""The folder in which compiled programs are kept between processes.

Programs in the folder are run as code, so it is used only where nobody else can write to it.
"""

import functools
import hashlib
import os
import platform
import stat
import sys
from pathlib import Path

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.files import user_folder

VARIABLE = "MUZERO_CACHE_DIR"


def cache_folder() -> Path | None:
    """The folder of compiled programs, made where it is missing; None where none are kept.

    `MUZERO_CACHE_DIR` names the folder, and an empty value turns the cache off. Without the
    variable the folder lies in the user's cache, one for each kind of processor, because machines
    may share a home folder. Where a folder cannot be used, a notice says why.
    """
    return _usable_folder(os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME", ""))


def kind_of_processor() -> str:
    """Eight characters that are the same for processors with the same instructions."""
    cpu_info = Path("/proc/cpuinfo")
    text = cpu_info.read_text(encoding="utf-8", errors="replace") if cpu_info.is_file() else ""
    kind = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(f"{platform.machine()} {kind}".encode()).hexdigest()[:8]


def is_private(status: os.stat_result) -> bool:
    """Whether only this user and root can change a file or folder."""
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in _trusted_users() and not others_write


def _trusted_users() -> set[int]:
    return {os.geteuid(), 0}


@functools.cache
def _usable_folder(named: str | None, user_cache: str) -> Path | None:
    """The folder for the values of the two variables; the notice is given once a process."""
    if named == "":
        return None
    try:
        if named and "://" in named:
            raise ConfigError(f"{named} must be a folder of this machine, not an address")
        if named:
            return _checked(Path(named).absolute())
        own = user_folder(user_cache, ".cache") / "muzero_jax"
        return _checked(own / f"xla-{kind_of_processor()}")
    except (ConfigError, OSError) as error:
        reason = str(error).rstrip(".")
        told = f"compiled programs are not kept: {reason}; {VARIABLE} can name another folder."
        print(f"notice: {told}", file=sys.stderr)
        return None


def _checked(folder: Path) -> Path:
    """Makes the folder where it is missing, and refuses one that others can write to."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    if status.st_uid not in _trusted_users():
        raise ConfigError(f"{folder} belongs to another user")
    if not is_private(status):
        trusted = "if its content is to be trusted, use chmod go-w"
        raise ConfigError(f"others can write to {folder}; {trusted}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written")
    return folder
