"""For every test: strict rank promotion, and programs compiled quickly and kept between runs."""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from jax._src import compiler

from muzero_jax.core import trust, user_code

_CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(_CACHE_HOME / "muzero_jax" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True, scope="session")
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys of the tests' own: the user's key seals nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def finished_run(state_folder: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of `TINY`, which many tests look at and none changes."""
    from tiny_run import TINY

    from muzero_jax.runs.runner import train

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # One run serves all workers.
    with (folder / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "tiny/result.json").exists():
            train(TINY, folder / "tiny")
    return folder / "tiny"


@pytest.fixture(autouse=True)
def nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test lets run, and where it finds modules, is not the next one's."""
    monkeypatch.setattr(trust._Decision, "is_given", False)
    monkeypatch.setattr(trust._Decision, "seals", True)
    monkeypatch.setattr(user_code._Search, "folders", ())
    monkeypatch.setattr(user_code._Search, "added", ())
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def shared_programs() -> Iterator[None]:
    """Sweeps of a module whose runs need the same programs build and compile them once."""
    from muzero_jax.sweeps import runner, workers
    from muzero_jax.sweeps.definition import group_key

    made = dict[Any, Any]()

    def once(make: Any, *key: Any) -> Any:
        key = (jax.config.values["jax_disable_most_optimizations"], _Compiling.is_quickest, *key)
        if key not in made:
            made[key] = make()
        return made[key]

    build, size, programs = workers.build, workers.size_programs, runner.Programs

    def build_once(config: Any) -> Any:
        return once(lambda: build(config), "build", group_key(config))

    def size_once(experiment: Any, num_runs: int, device: Any, memory: int, width: int) -> Any:
        key = (id(experiment), device, min(width, num_runs))
        return once(lambda: size(experiment, num_runs, device, memory, width), *key)

    def programs_once(experiment: Any, memory_bytes: int) -> Any:
        return once(lambda: programs(experiment, memory_bytes=memory_bytes), id(experiment))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "build", build_once)
        patch.setattr(workers, "build", build_once)
        patch.setattr(workers, "size_programs", size_once)
        patch.setattr(runner, "Programs", programs_once)
        yield


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors, since some tests wait for child processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="module")
def compile_once() -> Iterator[None]:
    """Compiles the programs of equal settings once for a module's tests, and draws no curves."""
    from tiny_run import shared_programs

    from muzero_jax.runs import runner

    with shared_programs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_draw_learning_curve", lambda run_dir: None)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no long file is begun last, beside idle workers."""
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


class _Compiling:
    """Whether programs are compiled by XLA's older emitters: twice as fast, for slower programs."""

    is_quickest = False


def _compile_options(*args: Any, **kwargs: Any) -> Any:
    options = _usual_options(*args, **kwargs)
    if _Compiling.is_quickest:
        quickest = [
            ("xla_cpu_use_fusion_emitters", False),
            ("xla_cpu_parallel_codegen_split_count", 1),
        ]
        options.env_option_overrides = [*options.env_option_overrides, *quickest]
    return options


_usual_options = compiler.get_compile_options
compiler.get_compile_options = _compile_options


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Compile without most optimisations, but for tests of what optimising could change.

    Compiling is most of the work of the suite. Slow tests start processes, and compile as these do.
    """
    is_quick = item.get_closest_marker("optimised") is None
    _Compiling.is_quickest = is_quick and item.get_closest_marker("slow") is None
    jax.config.update("jax_disable_most_optimizations", is_quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(is_quick)
