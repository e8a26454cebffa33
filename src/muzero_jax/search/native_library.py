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
        note = "Searches run in XLA's kernel, which takes two to five times as long."
        logging.getLogger(__name__).warning("No native search kernel: %s %s", error, note)
        return False
    return True


@functools.cache
def load() -> None:
    """Compiles the library where needed, and makes it known to XLA.

    Raises:
      NativeUnavailableError: there is no compiler, or it failed.
    """
    library = ctypes.CDLL(str(compiled_library()))
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


def compiled_library() -> Path:
    """The library, compiled where it is not in the cache of compiled programs yet.

    Raises:
      NativeUnavailableError: as `load`.
    """
    compiler = _compiler()
    parts = [source.read_bytes() for source in sorted(SOURCES.iterdir())]
    parts += [repr((OPTIONS, compiler, version("jaxlib"))).encode()]
    name = f"native-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.so"
    for folder in filter(None, (cache_folder(), _folder_of_this_process().name)):
        library = Path(folder) / name
        try:
            if not library.is_file():
                library.parent.mkdir(parents=True, exist_ok=True)
                _compile(compiler, library)
        except OSError as error:
            problem = f"{folder}: {error.strerror}."
        else:
            return library
    raise NativeUnavailableError(problem)


def _compile(compiler: str, library: Path) -> None:
    """Writes the library whole or not at all: other processes may be doing the same."""
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        result = Path(scratch) / library.name
        include = f"-I{jax.ffi.include_dir()}"
        command = [compiler, *OPTIONS, include, str(SOURCES / "kernel.cc"), "-o", str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            raise NativeUnavailableError(
                f"{compiler} failed: {(errors or ['no reason given'])[0]}."
            )
        os.replace(result, library)


def _compiler() -> str:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NativeUnavailableError(f"none of {names} was found.")
    return found


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="muzero-")
