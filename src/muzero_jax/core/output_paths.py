"""Checks of the paths that a user gives for a command's output, before any work is done."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from muzero_jax.core.errors import ConfigError

_MAX_NAME_BYTES = 255
FileKind = Literal["GIF", "PNG", "HTML"]
_FIRST_BYTES: Mapping[FileKind, bytes] = {
    "GIF": b"GIF8",
    "PNG": b"\x89PNG",
    "HTML": b"<!doctype html>",
}


def check_folder(path: Path, option: str) -> None:
    """Refuses a folder, named by its `option`, that cannot be made or written.

    Raises:
      ConfigError: the name cannot be used, something on the way is no folder, or the nearest folder
        that exists is not writable.
    """
    _check_name(path, option)
    nearest = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), Path("/"))
    if not nearest.is_dir():
        raise ConfigError(f"{option} {path} cannot be made: {nearest} is no folder.")
    trial = nearest / f".muzero-{uuid.uuid4().hex}"
    try:
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        trial.unlink()
    except OSError as error:
        told = f"{nearest} is not writable: {error.strerror}"
        raise ConfigError(f"{option} {path} cannot be made: {told}.") from error


def check_file(path: Path, option: str, kind: FileKind) -> None:
    """Refuses a file that cannot be written.

    Args:
      path: the file to be written.
      option: the option that names the file, for example `--gif`, for the message.
      kind: kind of file that will be written; a file of another kind is not replaced.

    Raises:
      ConfigError: the path is a folder, its folder cannot be made, or a file of another kind is
        there.
    """
    check_folder(path.parent, option)
    _check_name(path, option)
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; give the name of a file.")
    if not path.exists():
        return
    if not path.is_file() or not os.access(path, os.W_OK):
        raise ConfigError(f"{option} {path} cannot be written.")
    first = _FIRST_BYTES[kind]
    with path.open("rb") as file:
        found = file.read(len(first))
    if found and found.lower() != first.lower():
        raise ConfigError(f"{option} {path} is there and no {kind} file; it is not replaced.")


def _check_name(path: Path, option: str) -> None:
    text = str(path)
    if not text.isprintable():
        raise ConfigError(f"{option} {text!r} holds characters that cannot be printed.")
    longest = max((len(part.encode()) for part in path.parts), default=0)
    if longest > _MAX_NAME_BYTES or len(text.encode()) > 4_000:
        told = f"at most {_MAX_NAME_BYTES} are possible"
        raise ConfigError(f"{option} holds a name of {longest} bytes; {told}.")
