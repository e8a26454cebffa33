"""The search kernel in C++, compiled for this machine when it is first wanted.

It needs a C++ compiler (`$CXX`, c++, g++ or clang++); its headers come with JAX. The library is
kept in the folder of compiled programs and made again when its source, the compiler's options or
JAX change. Without a compiler searches run in XLA's kernel (one_kernel.py), with the same results.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import jax

from muzero_jax.cache_folder import cache_folder

SOURCES = Path(__file__).parent / "native"
TARGETS = ("muzero_search_gumbel", "muzero_search_puct")
# Products go into sums where the source says so (lanes.h), and nowhere else. Words of a node are
# integers or floats.
OPTIONS = (
    *("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
)


class NativeUnavailableError(RuntimeError):
    """There is no native kernel on this machine; says why."""


@functools.cache
def is_available() -> bool:
    """Whether searches can run in the native kernel; compiles it where that was not done yet."""
    try:
        load()
    except NativeUnavailableError as error:
        logging.getLogger(__name__).warning("%s Searches on a CPU take longer so.", error)
        return False
    return True


@functools.cache
def load() -> None:
    """Compiles the library where needed, and makes it known to XLA.

    Raises:
      NativeUnavailableError: there is no compiler, or it failed.
    """
    library = ctypes.CDLL(str(_library()))
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


def _library() -> Path:
    """The compiled library, from the cache if it is there."""
    sources = sorted(SOURCES.iterdir())
    parts = [*(s.read_bytes() for s in sources), repr(OPTIONS).encode(), _compiler().encode()]
    parts.append(version("jaxlib").encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = Path(cache_folder() or _folder_of_this_process().name)
    library = folder / f"native-{digest}.so"
    if not library.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _compile(Path(scratch) / library.name)
                # Other processes may be doing the same.
                os.replace(Path(scratch) / library.name, library)
        except OSError as error:
            reason = f"{folder}: {error.strerror}"
            raise NativeUnavailableError(f"No native search kernel: {reason}.") from error
    return library


def _compile(library: Path) -> None:
    include = f"-I{jax.ffi.include_dir()}"
    command = [_compiler(), *OPTIONS, include, str(SOURCES / "kernel.cc"), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NativeUnavailableError(f"No native search kernel: {_compiler()} failed: {reason}.")


@functools.cache
def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NativeUnavailableError(f"No native search kernel: none of {names} was found.")
    return found


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="muzero-")
