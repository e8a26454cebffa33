"""Files that are written whole or not at all, and never through a link inside a run folder.

A run folder may come from somebody else, and a link in it would lead to any other file of the user.
So writers first call `refuse_links`, and open what they keep open with `open_own`. A whole file is
written under a name that nobody can know before, and then moved, which follows no link.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from muzero_jax.core.errors import ConfigError, DiskError
from muzero_jax.core.file_names import CONFIG_FILE

# W&B keeps links to its own newest run in a folder of its own, directly in a run folder.
_FOLDERS_WITH_LINKS = ("wandb",)
# The file of a sweep of a hundred thousand settings is smaller.
MOST_BYTES = 64 * 2**20
_NO_FOLLOW, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Turns an error of the file system inside the block into one sentence about the run folder.

    Raises:
      DiskError: the folder cannot be written.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # These are errors of a service on the network, not of the disk.
    except OSError as error:
        raise DiskError(f"{run_dir} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666, *, is_new: bool = False) -> Iterator[Path]:
    """Gives a temporary file beside `path` to write to, which then takes the place of `path`.

    The file is flushed to the disk before it is moved. Where the block raises, nothing is left.
    The folder of `path` must exist.

    Args:
      path: the file.
      mode: its permissions, from which those that the user withholds are taken.
      is_new: whether a file that is there is left as it is.

    Raises:
      FileExistsError: the file `is_new`, and is there.
    """
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex}.tmp")
    with _naming(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, mode)
    try:
        yield temporary
        os.fsync(descriptor)
        with _naming(path):
            move = os.link if is_new else os.replace
            move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Lets an error of the system name the file that the user knows, not the one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Makes or replaces a UTF-8 file, which is at every moment either absent or whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Makes or replaces a file with a JSON object, which is either absent or whole."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_bytes(path: Path, *, is_typed: bool = False) -> bytes:
    """Reads a file, which may be endless. Only a path that the user has typed may be a pipe.

    Raises:
      ConfigError: the path is no regular file, or the file is larger than 64 MiB.
      OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | (0 if is_typed else _NO_WAIT))
    with open(descriptor, "rb") as file:
        if not is_typed and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path} is no regular file.")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path} is larger than {MOST_BYTES >> 20} MiB.")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; an empty one where there is no such file.

    Raises:
      ConfigError: the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(read_bytes(path))
    except FileNotFoundError:
        return {}
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {error}.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is damaged: it holds no JSON object.")
    return value


def last_json_line(path: Path) -> dict[str, Any]:
    """The last whole JSON object of a JSONL file; an empty one where there is none.

    It is joined with the objects before it that tell of the same `env_steps`. The last line may be
    torn, because a process may have died while it wrote.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found: dict[str, Any] = {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if not isinstance(value, dict):
                continue
            if found and value.get("env_steps") != found.get("env_steps"):
                break
            found = {**value, **found}
    return found


def refuse_links(folder: Path) -> None:
    """Makes sure that nothing below a folder is a link; the folder may be one, or not exist.

    W&B's folders directly in `folder`, or in a run folder below it, are left out.

    Raises:
      ConfigError: there is a link, which the message names.
    """
    for current, folders, names in os.walk(folder, onerror=_unless_gone):
        is_run = Path(current) == folder or CONFIG_FILE in names
        for path in [os.path.join(current, name) for name in (*folders, *names)]:
            if os.path.islink(path):
                told = "is a link, and nothing is written through links inside a run folder"
                raise ConfigError(f"{path} {told}; put what it points to in its place.")
        if is_run:
            folders[:] = [name for name in folders if name not in _FOLDERS_WITH_LINKS]


def _unless_gone(error: OSError) -> None:
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}.") from error


def open_own(path: Path, flags: int) -> int:
    """Opens a file for reading and writing, makes it where it is missing, and follows no link.

    A file that has a second name elsewhere (a hard link) is first replaced by a copy. `flags` are
    further flags of `os.open`. The caller closes the descriptor that is returned.

    Raises:
      ConfigError: the path is a link, or no regular file.
      OSError: the file cannot be opened.
    """
    flags |= os.O_RDWR | os.O_CREAT | _NO_FOLLOW | _NO_WAIT
    for _ in range(2):
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ConfigError(f"{path} is a link, and nothing is written through it.") from error
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink < 2:
            return descriptor
        os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            break
        with replacing(path) as temporary:
            shutil.copyfile(path, temporary)
    raise ConfigError(f"{path} is no regular file of its own; remove it.")


def user_folder(named: str, below_home: str) -> Path:
    """A folder of the user's own, by the rules of the XDG base directories.

    `named` is the value of the folder's variable, such as `XDG_CACHE_HOME`. Unless it is an
    absolute path, the folder lies `below_home`.

    Raises:
      ConfigError: nothing says where the user's home is.
    """
    if Path(named).is_absolute():
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigError("this user has no home folder; HOME is not set.") from error
    if not home.is_absolute():
        raise ConfigError(f"HOME must be an absolute path, found {str(home)!r}.")
    return home / below_home
