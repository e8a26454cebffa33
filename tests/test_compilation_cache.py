"""Where compiled programs are kept."""

import types
from pathlib import Path
from typing import Any

import pytest

from muzero_jax.training import compilation_cache


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
