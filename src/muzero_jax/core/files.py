"""Files that are written whole or not at all, and never through a link inside a run folder.

A run folder may come from somebody else. A link in it would lead what is written there to any other
file of the user, so that writers first call `refuse_links`, and open what they keep open by
`open_own`. A whole file is written beside its place, under a name that nobody can know before, and
is then moved to its place, which replaces a link and does not follow it.
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
from typing import Any, BinaryIO

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.file_names import CONFIG_FILE

# W&B keeps links to its own newest run in a folder of its own, directly in a run folder.
_FOLDERS_WITH_LINKS = ("wandb",)
# A sweep of a hundred thousand settings stays below.
MOST_BYTES = 64 * 2**20


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary file beside `path` to write to, which then takes the place of `path`.

    The file is flushed to the disk before it is moved. Where the block raises, nothing is left.

    Args:
      path: the file to make or to replace; its folder exists.
    """
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with _naming(path):
        descriptor = os.open(temporary, flags, 0o666)
    try:
        yield temporary
        os.fsync(descriptor)
        with _naming(path):
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Lets an error of the system name the file that the user knows, not the one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file so that it is either absent or whole.

    Args:
      path: the file to make or to replace.
      text: the content.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object so that the file is either absent or whole.

    Args:
      path: the file to make or to replace.
      value: the object.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_regular(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Reads a file of a folder that may be anybody's: no pipe, for which one would wait for ever.

    Args:
      path: the file; a link to a regular file is one.
      most_bytes: how large the file may be.

    Raises:
      ConfigError: the path is no regular file, or the file is too large.
      OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path} is no regular file.")
        return read_limited(file, path, most_bytes)


def read_limited(file: BinaryIO, path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Reads an open file that must not be too large, for example `/dev/zero`.

    Args:
      file: the open file.
      path: its path, for the message.
      most_bytes: how large the file may be.

    Raises:
      ConfigError: the file is larger.
    """
    content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ConfigError(f"{path} is larger than {most_bytes >> 20} MiB.")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
      path: the file.

    Returns:
      The object; an empty one where there is no such file.

    Raises:
      ConfigError: the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(read_regular(path))
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
    """The last line of a JSONL file that holds a whole object; empty where there is none.

    Args:
      path: the file, whose end may be torn, since a process may have died while it wrote.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
    return {}


def refuse_links(folder: Path) -> None:
    """Makes sure that nothing below a folder is a link; the folder itself may be one.

    W&B's folders are left out, where they lie directly in `folder` or in a run folder below it.

    Args:
      folder: a run or sweep folder that is about to be written to; it need not exist.

    Raises:
      ConfigError: there is a link, which the message names.
    """
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            raise ConfigError(f"{current} cannot be read: {error.strerror}.") from error
        is_run = current == folder or any(entry.name == CONFIG_FILE for entry in entries)
        left_out = _FOLDERS_WITH_LINKS if is_run else ()
        for entry in entries:
            if entry.is_symlink():
                raise ConfigError(
                    f"{entry.path} is a link, and nothing is written through links inside a run "
                    "folder; remove it, or put what it points to in its place."
                )
            if entry.is_dir(follow_symlinks=False) and entry.name not in left_out:
                waiting.append(Path(entry.path))


def open_own(path: Path, flags: int) -> int:
    """Opens a file for reading and writing, makes it where it is missing, and follows no link.

    A file that has a second name elsewhere (a hard link) is first replaced by a copy.

    Args:
      path: the file.
      flags: further flags of `os.open`.

    Returns:
      The descriptor, which the caller closes.

    Raises:
      ConfigError: the path is a link, or no regular file.
      OSError: the file cannot be opened.
    """
    flags |= os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    for _ in range(2):
        try:
            descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
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

    Args:
      named: what the folder's variable says, for example that of `XDG_CACHE_HOME`; it counts where
        it is an absolute path.
      below_home: where the folder is otherwise, below the user's home.

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
