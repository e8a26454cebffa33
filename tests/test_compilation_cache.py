"""Where compiled programs are kept."""

import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from muzero_jax.core import cache_folder
from muzero_jax.process import compilation_cache


@pytest.fixture(autouse=True)
def _nothing_is_known() -> None:
    """Restores the state of a process that begins."""
    cache_folder._usable_folder.cache_clear()


def _enable(monkeypatch: pytest.MonkeyPatch, told: str | None = None) -> dict[str, Any]:
    """What is changed in the settings of a JAX that was `told` of a folder."""
    changed: dict[str, Any] = {}
    values = {"jax_compilation_cache_dir": told}
    config = types.SimpleNamespace(update=changed.__setitem__, values=values)
    monkeypatch.setattr(compilation_cache, "jax", types.SimpleNamespace(config=config))
    compilation_cache.enable_compilation_cache()
    return changed


def test_default_is_in_the_cache_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUZERO_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(_enable(monkeypatch)["jax_compilation_cache_dir"])
    assert folder.parent == tmp_path / "muzero_jax"


def test_another_folder_or_none_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path / "somewhere"))
    assert _enable(monkeypatch)["jax_compilation_cache_dir"] == str(tmp_path / "somewhere")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert _enable(monkeypatch) == {}
    assert "notice: compiled programs are not kept" in capsys.readouterr().err
    monkeypatch.setenv("MUZERO_CACHE_DIR", "")
    assert _enable(monkeypatch) == {}


def test_a_folder_that_jax_was_told_of_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUZERO_CACHE_DIR", raising=False)
    assert _enable(monkeypatch, told="/of/jax") == {}


def _refused(folder: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> str:
    """The notice with which a folder is refused; it is given once."""
    monkeypatch.setenv("MUZERO_CACHE_DIR", folder)
    assert _enable(monkeypatch) == {} and cache_folder.cache_folder() is None
    (notice,) = capfd.readouterr().err.splitlines()
    assert notice.startswith("notice: compiled programs are not kept: ")
    return str(notice)


def test_a_folder_that_others_can_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    for mode in (0o777, 0o1777, 0o775):
        folder = tmp_path / str(mode)
        folder.mkdir()
        folder.chmod(mode)
        assert f"others can write to {folder}" in _refused(str(folder), monkeypatch, capfd)
    monkeypatch.setattr(cache_folder, "_trusted_users", lambda: {os.geteuid() + 1})
    folder = tmp_path / "of another"
    folder.mkdir(mode=0o755)
    assert f"{folder} belongs to another user" in _refused(str(folder), monkeypatch, capfd)


def test_a_folder_is_made_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path / "new"))
    before = os.umask(0o002)
    try:
        folder = cache_folder.cache_folder()
    finally:
        os.umask(before)
    assert folder and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("gs://bucket/programs", "gs://bucket/programs must be a folder of this machine"),
        ("/dev/null/programs", "cannot be made: Not a directory"),
        ("/dev/null", "cannot be made: File exists"),
        ("x" * 300, "cannot be made: File name too long"),
    ],
)
def test_nonsense_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, folder: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in _refused(folder, monkeypatch, capfd)
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_not_there_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUZERO_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = cache_folder.cache_folder()
    assert folder and folder.parents[2] == tmp_path / "home"
    cache_folder._usable_folder.cache_clear()
    monkeypatch.setenv("HOME", "elsewhere")
    assert cache_folder.cache_folder() is None
    assert "HOME must be an absolute path" in capfd.readouterr().err
    cache_folder._usable_folder.cache_clear()
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder.cache_folder() is None
    assert "this user has no home folder" in capfd.readouterr().err
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path / "named"))
    assert cache_folder.cache_folder() == tmp_path / "named"


def test_damaged_entries_are_removed_with_one_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("MUZERO_CACHE_DIR", str(tmp_path))
    for name in ("jit_a-1", "jit_b-2", "jit_b-3", "jit_c-4", "jit_c-5"):
        (tmp_path / f"{name}-cache").write_bytes(b"a program")

    def left() -> set[str]:
        return {path.name.removesuffix("-cache") for path in tmp_path.iterdir()}

    others: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda text, *_: others.append(text))
    _enable(monkeypatch)
    told = "Error {} persistent compilation cache entry for '{}': error: Error -5"
    warnings.showwarning(told.format("reading", "jit_b"), UserWarning, "compiler.py", 1)
    assert left() == {"jit_a-1", "jit_c-4", "jit_c-5"}
    notice = f"notice: removed jit_b from {tmp_path}, where it was damaged.\n"
    assert capfd.readouterr().err == notice
    # JAX names one entry where it asks whether there is one.
    warnings.showwarning(told.format("reading", "jit_c-4"), UserWarning, "compiler.py", 1)
    warnings.showwarning(told.format("writing", "jit_c-5"), UserWarning, "compiler.py", 1)
    assert left() == {"jit_a-1", "jit_c-5"}
    assert capfd.readouterr().err == ""
    warnings.showwarning("something else", UserWarning, "compiler.py", 1)
    assert others == ["something else"]


@pytest.mark.slow
def test_jax_compiles_a_damaged_program_anew_and_keeps_it(tmp_path: Path) -> None:
    program = (
        "from muzero_jax.process.compilation_cache import enable_compilation_cache\n"
        "enable_compilation_cache()\n"
        "import jax\n"
        "assert jax.jit(lambda x: x * 2 + 1)(2.0) == 5\n"
    )
    environment = {**os.environ, "MUZERO_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> str:
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, env=environment
        )
        return done.stderr

    assert run() == ""
    entries = [path for path in (tmp_path / "cache").iterdir() if path.name.endswith("-cache")]
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:20])
    assert "where it was damaged" in run()
    assert all(len(entry.read_bytes()) > 20 for entry in entries)
    assert run() == ""
