"""The sink for Weights & Biases; a module that behaves like W&B takes its place."""

import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
from tiny_run import tiny

from muzero_jax.config import ConfigError
from muzero_jax.runs import runner
from muzero_jax.sweeps.definition import Study, Sweep
from muzero_jax.sweeps.runner import run_sweep
from muzero_jax.sweeps.search_space import parse_axis
from muzero_jax.tracking.tracker import Tracker
from muzero_jax.tracking.wandb_sink import check_login

CONFIG = tiny(logging__tensorboard=False, logging__wandb=True)


class FakeRun:
    def __init__(self, wandb: "FakeWandb", options: dict[str, Any]):
        self.wandb, self.options = wandb, options
        self.logged: list[dict[str, float]] = []
        self.finished = False

    def define_metric(self, *_: object, **__: object) -> None:
        return None

    def log(self, row: dict[str, float]) -> None:
        if self.wandb.is_down:
            raise self.wandb.Error("the service\nis gone")
        self.logged.append(row)

    def finish(self) -> None:
        self.finished = True


class FakeWandb(types.ModuleType):
    """One process's W&B: without `reinit="create_new"` it returns the run that is active."""

    Settings = staticmethod(lambda **options: options)

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[FakeRun] = []
        self.is_down = False
        self.settings = types.SimpleNamespace(
            mode=None, api_key=None, base_url="https://api.wandb.ai"
        )

    def setup(self) -> Any:
        return types.SimpleNamespace(settings=self.settings)

    def init(self, **options: Any) -> FakeRun:
        if self.is_down:
            raise self.Error("nobody answers")
        active = [run for run in self.runs if not run.finished]
        if active and options.get("reinit") != "create_new":
            return active[-1]
        self.runs.append(FakeRun(self, options))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWandb:
    """W&B without a login; HOME has no netrc file."""
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    return module


def test_a_run_s_numbers_go_to_one_run_also_when_it_is_resumed(wandb, tmp_path):
    tracker = Tracker(tmp_path, CONFIG)
    tracker.write_metrics({"env_steps": 64, "loss/total": 0.25})
    tracker.close()
    (run,) = wandb.runs
    assert run.logged == [{"env_steps": 64, "loss/total": 0.25}]
    assert run.finished
    assert run.options["resume"] == "allow"
    assert run.options["config"]["environment"]["name"] == "catch"
    assert run.options["settings"] == {"console": "off"}
    Tracker(tmp_path, CONFIG).close()
    assert wandb.runs[1].options["id"] == run.options["id"]
    (tmp_path / "other").mkdir()
    Tracker(tmp_path / "other", CONFIG).close()
    assert wandb.runs[2].options["id"] != run.options["id"]
    assert wandb.runs[2].options["group"] is None


def test_runs_of_a_sweep_that_go_on_at_once_keep_apart(wandb, tmp_path):
    folders = [tmp_path / f"rates/members/setting-000/seed-{seed}" for seed in range(4)]
    begun = threading.Barrier(len(folders))

    def work(folder: Path) -> None:
        folder.mkdir(parents=True)
        tracker = Tracker(folder, CONFIG)
        begun.wait(timeout=20)
        tracker.write_metrics({"env_steps": int(folder.name[-1])})
        tracker.close()

    lanes = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    told = {run.options["name"]: run.logged for run in wandb.runs}
    assert told == {f"rates-setting-000-seed-{seed}": [{"env_steps": seed}] for seed in range(4)}
    assert {run.options["group"] for run in wandb.runs} == {"rates"}
    assert all(run.finished for run in wandb.runs)


@pytest.mark.parametrize("is_down_at", ["beginning", "writing"])
def test_an_outage_is_one_line_and_the_run_goes_on(wandb, tmp_path, capsys, is_down_at):
    wandb.is_down = is_down_at == "beginning"
    tracker = Tracker(tmp_path, CONFIG)
    wandb.is_down = True
    tracker.write_metrics({"env_steps": 64})
    tracker.write_metrics({"env_steps": 128})
    tracker.close()
    told = capsys.readouterr().err
    assert told.count("notice: the run goes on without W&B") == told.count("\n") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_without_a_login_nothing_is_begun(wandb, tmp_path):
    out, told = tmp_path / "out", "needs a login to W&B, and there is none: run `wandb login`"
    with pytest.raises(ConfigError, match=told):
        runner.train(CONFIG, out)
    with pytest.raises(ConfigError, match=told):
        run_sweep(Sweep("tiny", CONFIG, (0, 1), ({},)), out)
    varied = ({"logging.wandb": False}, {"logging.wandb": True})
    with pytest.raises(ConfigError, match=told):
        run_sweep(Sweep("tiny", tiny(), (0,), varied), out)
    space = (parse_axis(CONFIG, "learning_rate=1e-3..1e-1:log"),)
    with pytest.raises(ConfigError, match=told):
        run_sweep(Study("tiny", CONFIG, (0,), "rates", space, num_trials=1), out)
    assert not out.exists()
    assert not wandb.runs


def test_what_makes_a_login_or_needs_none(wandb, tmp_path, monkeypatch):
    check_login([tiny()])
    for mode in ("offline", "disabled"):
        monkeypatch.setattr(wandb.settings, "mode", mode)
        check_login([CONFIG])
    monkeypatch.setattr(wandb.settings, "mode", "online")
    with pytest.raises(ConfigError):
        check_login([tiny(), CONFIG])
    for name, text in ((".netrc", "machine api.wandb.ai"), ("elsewhere", "machine api.wandb.ai")):
        path = tmp_path / name
        path.write_text(f"{text} login user password {'0' * 40}\n")
        with monkeypatch.context() as patch:
            patch.setenv("NETRC", str(path))
            check_login([CONFIG])
        path.write_text(f"machine other.site login user password {'0' * 40}\n")
        with pytest.raises(ConfigError):
            check_login([CONFIG])
    monkeypatch.setattr(wandb.settings, "api_key", "0" * 40)
    check_login([CONFIG])


def test_where_wandb_is_not_installed_there_is_a_notice(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_login([CONFIG])
    Tracker(tmp_path, CONFIG).close()
    told = capsys.readouterr().err
    assert "logging.wandb is left out" in told and "pip install 'muzero-jax[wandb]'" in told
