"""Whether code outside this package that a folder or a YAML file names may be run.

A run folder, a sweep folder and a YAML file are data, and may come from a stranger. Code that they
name is imported only if the folder carries a seal (`code.json`) that this user made, or if the user
says `--trust` or sets MUZERO_TRUST=1. Names that the user typed, or that stand in a script that the
user named, are trusted, and are sealed into the folders that are made with them. A seal is an
HMAC-SHA256 by the user's key over what it covers; the sealed folder itself may be moved.
"""

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from muzero_jax.core import user_code
from muzero_jax.core.errors import ConfigError
from muzero_jax.core.files import read_json, replacing, user_folder, write_json

SEAL_FILE = "code.json"
_KEY_BYTES = 32
# What stands between the values of a list that is written as one text.
_SEPARATORS = re.compile(r"[\s,()\[\]{}'\"]+")


class UntrustedCodeError(ConfigError):
    """A folder or file names code outside this package, and nothing says that it may be run."""


class Seal(NamedTuple):
    """What a seal covers: names of code with their options, and where their modules were found."""

    references: tuple[str, ...]
    folders: tuple[str, ...]

    def sign(self, key: bytes) -> str:
        """The signature of the seal with a key."""
        text = json.dumps([list(self.references), list(self.folders)])
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class _Decision:
    """Whether the user trusts all that this process reads, and whether it makes seals."""

    is_given = False
    seals = True


def trust_everything(*, seals: bool = True) -> None:
    """Lets this process run all code that is named by the folders and files that it reads.

    A worker of a sweep makes no `seals`: it leaves them to the driver, which has the user's key.
    """
    _Decision.is_given, _Decision.seals = True, seals


def is_trusting() -> bool:
    """Whether `--trust` was given, or MUZERO_TRUST is set to 1."""
    return _Decision.is_given or os.environ.get("MUZERO_TRUST", "") == "1"


def code_references(tree: Any) -> tuple[str, ...]:
    """The names of code outside this package in nested settings, in alphabetical order.

    Every text of the form `module:name` counts, whichever setting it belongs to.
    """
    texts = list(_texts(tree))
    found = {text for text in texts if module_of(text)}
    # A text may stand for a list; it may also be a title with a colon in it, which names no module.
    pieces = {piece for text in texts for piece in _SEPARATORS.split(text) if module_of(piece)}
    found |= {piece for piece in pieces if user_code.locate(module_of(piece)) is not None}
    return tuple(sorted(found))


def _texts(tree: Any) -> Iterator[str]:
    """All texts in nested dictionaries and lists."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value)


def module_of(name: str) -> str:
    """The user's module that a name refers to, such as `my_module:make:size=3` or `my_agents:DQN`.

    The result is empty for names of this package and of suites, such as `catch` or
    `gymnax:CartPole-v1`. Environments, agents, networks and observers have such names.
    """
    parts = [part for part in name.split(":") if "=" not in part]
    module = ":".join(parts[:-1])
    is_ours = module in user_code.SUITES or not user_code.is_module_name(module)
    return "" if is_ours else module


def admit(folder: Path, references: Sequence[str]) -> None:
    """Decides, before anything is imported, whether code that a run or sweep folder names may run.

    `references` are the names that `code_references` finds.

    Raises:
      UntrustedCodeError: the folder carries no seal of this user for these names.
    """
    if not references:
        return
    seal = _read_seal(folder)
    if seal is not None and set(references) <= set(seal.references):
        folders = [Path(name) for name in seal.folders]
        modules = map(module_of, seal.references)
        if all(user_code.locate(module, folders) is not None for module in modules):
            # The folders of the seal go first: a file in the working folder may be a stranger's.
            return user_code.search_in(folders)
    admit_file(folder, references)
    return seal_folder(folder, references)


def admit_file(path: Path, references: Sequence[str]) -> None:
    """Decides whether the code that a file without a seal names may be run.

    `references` are names that `code_references` finds, or paths of scripts.

    Raises:
      UntrustedCodeError: the user has not said that the code may be run.
    """
    if not references or is_trusting():
        return
    reference, name = references[0], module_of(references[0])
    file = Path(reference) if reference.endswith(".py") else user_code.locate(name)
    is_python = name.partition(".")[0] in sys.stdlib_module_names
    missing = "which is part of Python" if is_python else "which is not found here"
    where = f"the file {file}" if file else missing
    subject = f"the module {name!r}" if name else "a script"
    told = f"{path} names code outside this program: {reference!r}, {subject}, {where}"
    advice = "if you know what it does, add --trust, or set MUZERO_TRUST=1"
    raise UntrustedCodeError(f"{told}; {advice}.")


def seal_folder(folder: Path, references: Sequence[str]) -> None:
    """Seals names of code, if there are any, into the run or sweep folder made with them."""
    if not references or not _Decision.seals:
        return
    found = (user_code.folder_of(module_of(reference)) for reference in references)
    folders = dict.fromkeys(str(f) for f in found if f is not None)
    seal = Seal(tuple(references), tuple(folders))
    try:
        write_json(folder / SEAL_FILE, {**seal._asdict(), "seal": seal.sign(_key())})
    except (OSError, ConfigError) as error:
        told = f"{folder} is not sealed, so that later commands need --trust: {error}"
        print(f"notice: {told}", file=sys.stderr)


def _read_seal(folder: Path) -> Seal | None:
    """The seal of a folder, if this user made it."""
    try:
        if not key_file().exists():
            return None  # This user has sealed nothing yet.
    except ConfigError:
        return None  # A user without a home folder has no key.
    key = _key()
    try:
        content = read_json(folder / SEAL_FILE)
        seal = Seal(tuple(content["references"]), tuple(content["folders"]))
        return seal if hmac.compare_digest(seal.sign(key), content["seal"]) else None
    except (ConfigError, KeyError, TypeError):
        return None


def key_file() -> Path:
    """The file of this user's key, in the user's state folder.

    Raises:
      ConfigError: nothing says where the user's home is.
    """
    state_folder = user_folder(os.environ.get("XDG_STATE_HOME", ""), ".local/state")
    return state_folder / "muzero_jax" / "key"


def _key() -> bytes:
    """This user's key, made on first use; a key that others can read or have made is refused."""
    path = key_file()
    if not path.exists():
        _make_key(path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
        key = file.read(_KEY_BYTES + 1)
    if not is_private or len(key) != _KEY_BYTES:
        told = f"must be a file of {_KEY_BYTES} bytes that you alone can read"
        raise ConfigError(f"the key {path} {told}; remove it, and a new one is made.")
    return key


def _make_key(path: Path) -> None:
    """Makes the key, whole; if several processes do so at once, one of them wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError), replacing(path, 0o600, is_new=True) as draft:
        draft.write_bytes(secrets.token_bytes(_KEY_BYTES))
