"""Files are written whole or not at all, never through a link, and never over somebody else's."""

import errno
import os
from pathlib import Path

import pytest

from muzero_jax.core.errors import ConfigError
from muzero_jax.core.files import (
    last_json_line,
    open_own,
    read_json,
    refuse_links,
    replacing,
    write_json,
    write_text,
)
from muzero_jax.core.output_paths import check_file, check_folder
from muzero_jax.core.plain_yaml import read_yaml


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside of every run folder."""
    path = tmp_path / "victim.txt"
    path.write_text("precious")
    return path


def test_a_written_file_replaces_a_link_and_not_what_it_points_to(tmp_path, victim):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "report.html").symlink_to(victim)
    write_text(run_dir / "report.html", "new")
    assert victim.read_text() == "precious"
    assert (run_dir / "report.html").read_text() == "new"
    assert not (run_dir / "report.html").is_symlink()


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_json_is_an_object_or_one_sentence(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) == {}
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    for text in ("[1]", "{", "[" * 100_000, "\x00"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"a\.json is damaged"):
            read_json(path)


def test_links_anywhere_below_are_named(tmp_path, victim):
    folder = tmp_path / "run"
    (folder / "checkpoints" / "512").mkdir(parents=True)
    refuse_links(folder)
    refuse_links(tmp_path / "missing")
    (folder / "checkpoints" / "512" / "record").symlink_to(victim)
    with pytest.raises(ConfigError, match="checkpoints/512/record is a link"):
        refuse_links(folder)


def test_the_links_of_wandb_are_left_out_directly_in_a_run_folder_only(tmp_path, victim):
    run_dir = tmp_path / "sweep" / "members" / "setting-000" / "seed-0"
    for folder in (run_dir, tmp_path / "sweep"):
        (folder / "wandb").mkdir(parents=True)
        (folder / "wandb" / "latest-run").symlink_to(victim)
    (run_dir / "config.yaml").touch()
    refuse_links(run_dir)
    refuse_links(tmp_path / "sweep")
    (run_dir / "checkpoints" / "wandb").mkdir(parents=True)
    (run_dir / "checkpoints" / "wandb" / "data").symlink_to(victim)
    with pytest.raises(ConfigError, match="checkpoints/wandb/data is a link"):
        refuse_links(tmp_path / "sweep")


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "real")
    refuse_links(tmp_path / "runs")


def test_an_own_file_is_opened_as_it_is(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("line\n")
    os.close(open_own(path, 0))
    assert path.read_text() == "line\n"


def test_a_link_a_pipe_and_a_second_name_are_not_written_through(tmp_path, victim):
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(ConfigError, match="is a link"):
        open_own(tmp_path / "link", os.O_APPEND)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        open_own(tmp_path / "pipe", 0)
    os.link(victim, tmp_path / "second")
    descriptor = open_own(tmp_path / "second", os.O_APPEND)
    os.write(descriptor, b" and more")
    os.close(descriptor)
    assert (tmp_path / "second").read_text() == "precious and more"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("victim.txt/run", "victim.txt is no folder"),
        ("a" * 300, "a name of 300 bytes; at most 255"),
        ("a\nb", "cannot be printed"),
        ("a\0b", "cannot be printed"),
        ("a\udcffb", "cannot be printed"),
    ],
)
def test_folders_that_cannot_be_made_are_refused(tmp_path, victim, name, told):
    with pytest.raises(ConfigError, match=told):
        check_folder(tmp_path / name, "--out")
    check_folder(tmp_path / "new" / "run", "--out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["victim.txt"]


def test_an_output_file_must_be_free_or_of_its_kind(tmp_path, victim):
    check_file(tmp_path / "new" / "a.gif", "--gif", "GIF")
    (tmp_path / "old.gif").write_bytes(b"GIF89a...")
    check_file(tmp_path / "old.gif", "--gif", "GIF")
    with pytest.raises(ConfigError, match="no GIF file; it is not replaced"):
        check_file(victim, "--gif", "GIF")
    with pytest.raises(ConfigError, match="is a folder"):
        check_file(tmp_path, "--gif", "GIF")
    with pytest.raises(ConfigError, match=r"victim\.txt is no folder"):
        check_file(victim / "a.gif", "--gif", "GIF")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    # chmod would not do, because the superuser may write everywhere.
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="is not writable"):
        check_folder(tmp_path / "run", "--out")


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="is no regular file"):
        read_yaml(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="is no regular file"):
        read_json(tmp_path / "config.yaml")


def test_a_file_without_an_end_is_not_read_to_it(tmp_path):
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is no regular file"):
        read_json(tmp_path / "zeros")
    with pytest.raises(ConfigError, match="is larger than 64 MiB"):
        read_yaml(tmp_path / "zeros", is_typed=True)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="is larger than 64 MiB"):
        read_json(tmp_path / "sparse")


def test_the_last_line_is_joined_with_those_of_the_same_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        '{"env_steps": 1, "a": 1}',
        '{"env_steps": 2, "a": 2}',
        '{"env_steps": 2, "b": 3}',
        "{",
    ]
    path.write_text("\n".join(lines))
    assert last_json_line(path) == {"env_steps": 2, "a": 2, "b": 3}
