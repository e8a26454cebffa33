"""The search kernel in C++, compiled for this machine when it is first wanted.

It needs a C++17 compiler (`$CXX`, c++, g++ or clang++; GCC from version 12 on); its headers come
with JAX. The library is kept in the folder of compiled programs. It is made again when its source,
the compiler's options, the processor or JAX change, and when its file is damaged. Without a
compiler searches run in XLA's kernel (one_kernel.py), with the same results.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import jax

from muzero_jax.core.cache_folder import cache_folder, is_private, kind_of_processor

SOURCES = Path(__file__).parent / "cpp"
TARGETS = ("muzero_search_gumbel", "muzero_search_puct")
# Products go into sums where the source says so (lanes.h), and nowhere else. Words of a node are
# integers or floats.
OPTIONS = (
    *("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
)


class CppUnavailableError(RuntimeError):
    """There is no cpp kernel on this machine; says why."""


_LOADING = threading.Lock()


def is_available() -> bool:
    """Whether searches can run in the cpp kernel; compiles it where that was not done yet."""
    with _LOADING:
        return _try_to_load()


@functools.cache
def _try_to_load() -> bool:
    try:
        load()
    except CppUnavailableError as error:
        note = "Searches run in XLA's kernel, which may take several times as long."
        logging.getLogger(__name__).warning("No C++ search kernel: %s %s", error, note)
        return False
    return True


def load() -> None:
    """Compiles the library where needed, and makes it known to XLA.

    Raises:
      CppUnavailableError: there is no compiler, it failed, or its library cannot be loaded.
    """
    problems = []
    for folder in _folders():
        try:
            return _register(ctypes.CDLL(str(_library_in(folder))))
        except CppUnavailableError as error:
            problems.append(str(error))
        except OSError as error:  # For example a disk that no program may be run from.
            problems.append(f"{error}.")
    raise CppUnavailableError(" ".join(dict.fromkeys(problems)))


def _folders() -> Iterator[Path]:
    """The folder of compiled programs, and one that goes with this process."""
    if folder := cache_folder():
        yield folder
    with contextlib.suppress(OSError):
        yield Path(_folder_of_this_process().name)


def _register(library: ctypes.CDLL) -> None:
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


def _library_in(folder: Path) -> Path:
    """The library, compiled where the folder has none yet, or a damaged one.

    A library that is cut short ends the process at the first look at what is missing, so its name
    holds the digest of its content. Files whose content is another, or that others can change, are
    removed.

    Raises:
      CppUnavailableError: there is no compiler, or it failed.
      OSError: the folder cannot be written.
    """
    compilers = _compilers()
    parts = [source.read_bytes() for source in sorted(SOURCES.glob("*.*"))]
    parts += [repr((OPTIONS, compilers, kind_of_processor(), version("jaxlib"))).encode()]
    stem = f"cpp-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}"
    for library in sorted(folder.glob(f"{stem}-*.so")):
        if _is_whole(library):
            return library
        library.unlink(missing_ok=True)
    return _compiled_in(folder, stem, compilers)


def _is_whole(library: Path) -> bool:
    """Whether a file is the library that was written, and nobody else can change it."""
    try:
        descriptor = os.open(library, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_private_file = stat.S_ISREG(status.st_mode) and is_private(status)
        return is_private_file and library.stem.endswith(f"-{_digest(file.read())}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compiled_in(folder: Path, stem: str, compilers: Sequence[str]) -> Path:
    """Writes the library whole or not at all: other processes may be doing the same."""
    problems = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        result = Path(scratch) / "cpp.so"
        for compiler in compilers:
            problem = _compile(compiler, result)
            if problem is None:
                return _keep(result, folder, stem)
            problems.append(problem)
    raise CppUnavailableError(" ".join(problems))


def _keep(result: Path, folder: Path, stem: str) -> Path:
    """Moves what was compiled to where it stays, also if the machine stops right after that."""
    result.chmod(0o755)
    with result.open("rb") as file:
        library = folder / f"{stem}-{_digest(file.read())}.so"
        os.fsync(file.fileno())
    result.replace(library)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return library


def _compile(compiler: str, result: Path) -> str | None:
    """What went wrong, in a sentence, or None."""
    include = f"-I{jax.ffi.include_dir()}"
    command = [compiler, *OPTIONS, include, str(SOURCES / "kernel.cc"), "-o", str(result)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        return None
    told = done.stderr.decode("utf-8", errors="replace")
    errors = [line for line in told.splitlines() if "error" in line]
    return f"{compiler} failed: {(errors or ['no reason given'])[0]}."


def _compilers() -> list[str]:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = [path for path in map(shutil.which, names) if path]
    if not found:
        raise CppUnavailableError(f"none of {names} was found.")
    return found


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="muzero-")
