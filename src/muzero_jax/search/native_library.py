"""The search kernel in C++, compiled for this machine when it is first wanted.

It needs a C++17 compiler (`$CXX`, c++, g++ or clang++; GCC from version 12 on); its headers come
with JAX. The library is kept in the folder of compiled programs and made again when its source, the
compiler's options, the processor or JAX change. Without a compiler searches run in XLA's kernel
(one_kernel.py), with the same results.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax

from muzero_jax.cache_folder import cache_folder, kind_of_processor

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


_LOADING = threading.Lock()


def is_available() -> bool:
    """Whether searches can run in the native kernel; compiles it where that was not done yet."""
    with _LOADING:
        return _try_to_load()


@functools.cache
def _try_to_load() -> bool:
    try:
        load()
    except NativeUnavailableError as error:
        note = "Searches run in XLA's kernel, which may take several times as long."
        logging.getLogger(__name__).warning("No native search kernel: %s %s", error, note)
        return False
    return True


def load() -> None:
    """Compiles the library where needed, and makes it known to XLA.

    Raises:
      NativeUnavailableError: there is no compiler, it failed, or its library cannot be loaded.
    """
    try:
        library = ctypes.CDLL(str(compiled_library()))
    except OSError as error:
        raise NativeUnavailableError(f"{error}.") from error
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


def compiled_library() -> Path:
    """The library, compiled where it is not in the cache of compiled programs yet.

    Raises:
      NativeUnavailableError: there is no compiler, or it failed.
    """
    compilers = _compilers()
    parts = [source.read_bytes() for source in sorted(SOURCES.glob("*.*"))]
    parts += [repr((OPTIONS, compilers, kind_of_processor(), version("jaxlib"))).encode()]
    name = f"native-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.so"
    if folder := cache_folder():
        try:
            return _compiled_in(Path(folder), name, compilers)
        except OSError:
            pass  # It cannot be written; the library is then compiled by every process.
    try:
        return _compiled_in(Path(_folder_of_this_process().name), name, compilers)
    except OSError as error:
        raise NativeUnavailableError(f"{error}.") from error


def _compiled_in(folder: Path, name: str, compilers: Sequence[str]) -> Path:
    """Writes the library whole or not at all: other processes may be doing the same."""
    library = folder / name
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        result = Path(scratch) / name
        problems = []
        for compiler in compilers:
            problem = _compile(compiler, result)
            if problem is None:
                os.replace(result, library)
                return library
            problems.append(problem)
    raise NativeUnavailableError(" ".join(problems))


def _compile(compiler: str, result: Path) -> str | None:
    """What went wrong, in a sentence, or None."""
    include = f"-I{jax.ffi.include_dir()}"
    command = [compiler, *OPTIONS, include, str(SOURCES / "kernel.cc"), "-o", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    return f"{compiler} failed: {(errors or ['no reason given'])[0]}."


def _compilers() -> list[str]:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = [path for path in map(shutil.which, names) if path]
    if not found:
        raise NativeUnavailableError(f"none of {names} was found.")
    return found


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="muzero-")
