"""The search kernel in C++, compiled for this machine when it is first used.

The kernel needs a C++17 compiler (`$CXX`, c++, g++ or clang++; GCC from version 12 on); its headers
come with JAX. The library is kept in the folder of compiled programs. It is compiled again when its
source, the compiler's options, the processor or JAX change, or when its file is damaged. Without a
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
# A product is fused with a sum only where the source says so (lanes.h). The words of a node are
# read both as integers and as floats.
OPTIONS = (
    *("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
)


class CppUnavailableError(RuntimeError):
    """There is no C++ kernel on this machine; the message says why."""


_LOADING = threading.Lock()


def is_available() -> bool:
    """Whether searches can run in the C++ kernel, which is compiled first where it has not been."""
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
    """Compiles the library where needed, and registers it with XLA.

    Raises:
      CppUnavailableError: there is no compiler, it failed, or its library cannot be loaded.
    """
    problems = []
    for folder in _folders():
        try:
            return _register(ctypes.CDLL(str(_library_in(folder))))
        except CppUnavailableError as error:
            problems.append(str(error))
        except OSError as error:  # For example, programs may not be run from this disk.
            problems.append(f"{error}.")
    raise CppUnavailableError(" ".join(dict.fromkeys(problems)))


def _folders() -> Iterator[Path]:
    """The folder of compiled programs, and a folder that is removed when this process ends."""
    if folder := cache_folder():
        yield folder
    with contextlib.suppress(OSError):
        yield Path(_folder_of_this_process().name)


def _register(library: ctypes.CDLL) -> None:
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


def _library_in(folder: Path) -> Path:
    """The library in a folder, which is compiled where the folder has none or a damaged one.

    Loading a file that was cut short would end the process. So the name of a library holds the
    digest of its content; files with another content, or that others can change, are removed.

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
    """Whether a file has the content that its name says, and nobody else can change it."""
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
    """Compiles the library and writes it whole or not at all, as other processes may do too."""
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
    """Moves a compiled library to its place, where it stays even if the machine then stops."""
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
    """Compiles the library; returns a sentence about what went wrong, or None."""
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
