"""Mistakes that users make, over all commands; each must be one sentence and exit code 2.

    python tests/bad_inputs.py      # each in a process of its own, with its seconds of CPU time

In the arguments RUN is a finished run, and the working folder is empty but for the files that a
mistake brings along.
"""

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ENV = """
import dataclasses, jax.numpy as jnp, numpy as np
from muzero_jax.envs.base import EnvironmentSpec, make_timestep
@dataclasses.dataclass(frozen=True)
class Bad:
    kind: str
    spec = EnvironmentSpec("bad", (4,), "float32", 3)
    def at(self, t, reward=0.0):
        ts = make_timestep(jnp.ones(4) * t, num_actions=3, reward=reward, terminated=t >= 6)
        odd = {
            "dict": {"observation": {"a": jnp.zeros(4)}},
            "scalar": {"reward": ts.reward[0]},
            "shape": {"observation": jnp.ones(5)},
            "mask": {"legal_action_mask": jnp.ones(4, bool)},
            "stuck": {"legal_action_mask": jnp.zeros(3, bool)},
            "discount": {"discount": ts.discount * 0.99},
            "infinite": {"reward": ts.reward / 0.0},
        }
        return ts.replace(**odd.get(self.kind, {}))
    def reset(self, rng_key): return jnp.zeros((), jnp.int32), self.at(jnp.zeros((), jnp.int32))
    def step(self, rng_key, t, action):
        if self.kind == "branch" and t > 3: return t, self.at(t)
        return t + 1, self.at(t + 1, float(np.random.rand()) if self.kind == "noise" else 1.0)
def make(kind="good"): return Bad(kind)
def fails(): raise RuntimeError("no such level")
def nothing(): return None
"""
CONFIG = "from muzero_jax.config import *\nCONFIG = ExperimentConfig("


@dataclasses.dataclass(frozen=True)
class BadInput:
    """A mistake.

    Attributes:
      args: the arguments of the command, in one text.
      told: a part of the sentence.
      files: what lies in the working folder, by name.
      needs_env: whether an environment must be made to find the mistake.
    """

    args: str
    told: str
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs_env: bool = False


def _env(args: str, told: str) -> BadInput:
    return BadInput(args, told, {"my_env.py": ENV}, needs_env=True)


BAD_INPUTS = (
    # The command itself.
    BadInput("trian catch", "unknown command 'trian'; did you mean train?"),
    BadInput("--seed 1", "unknown command '--seed'"),
    BadInput("evaluat RUN", "did you mean evaluate?"),
    BadInput("profile tree", "unknown profile 'tree'; there are search and loop"),
    # Experiments.
    BadInput("train", "name an experiment first"),
    BadInput("train --seed 3", "name an experiment first"),
    BadInput("train cartpol", "did you mean cartpole"),
    BadInput("train no/such/script.py", "there is no experiment script"),
    BadInput(
        "train script.py", "line 1: ModuleNotFoundError", {"script.py": "import nothing_here"}
    ),
    BadInput("train script.py", "line 2: SyntaxError", {"script.py": "a = 1\nCONFIG = ("}),
    BadInput("train script.py", "line 1: ZeroDivisionError", {"script.py": "1/0"}),
    BadInput("train script.py", "must define CONFIG", {"script.py": "X = 1"}),
    BadInput("train script.py", "found dict", {"script.py": "CONFIG = {}"}),
    BadInput("train script.py", "seed must be an integer", {"script.py": f"{CONFIG}seed='x')"}),
    BadInput("train script.py", "must be a SearchConfig", {"script.py": f"{CONFIG}search=3)"}),
    BadInput("train script.py", "SystemExit", {"script.py": "exit()"}),
    BadInput("train .", "unknown experiment"),
    BadInput("train catch more", "cannot make sense of 'more'"),
    # Names and values of settings.
    BadInput("train catch --learning_rate 1", "did you mean --optimizer.learning_rate"),
    BadInput("train catch --seed x", "seed must be an integer, found 'x'"),
    BadInput("train catch --seed 1.5", "seed must be an integer"),
    BadInput("train catch --seed -1", "seed must be between 0 and 2^32 - 1, found -1"),
    BadInput("train catch --seed 99999999999999999999", "seed must be between 0 and 2^32"),
    BadInput("train catch --seed", "seed needs a value"),
    BadInput("train catch --replay.prioritised=maybe", "must be true or false, found 'maybe'"),
    BadInput("train catch --optimizer.learning_rate -1", "learning_rate must be at least 0"),
    BadInput("train catch --optimizer.learning_rate nan", "learning_rate must be at least 0"),
    BadInput("train catch --optimizer.schedule step", "must be one of constant, linear, cosine"),
    BadInput("train catch --target.discount 1.5", "target.discount must be between 0 and 1"),
    BadInput("train catch --network.hidden_sizes 0", "one or more sizes between 1"),
    BadInput("train catch --network.hidden_sizes a,b", "hidden_sizes must be an integer"),
    BadInput("train catch --network.kind transformer", "network.kind must be one of"),
    BadInput("train catch --search.num_simulations 0", "between 1 and 100,000, found 0"),
    BadInput("train catch --training.num_envs 3 --training.num_shards 2", "cannot be divided"),
    BadInput("train catch --replay.batch_size 100000 --replay.ratio 0.001", "gives no update"),
    # Sizes that cannot be.
    BadInput("train catch --replay.capacity 1e11", "at most 2,147,483,647"),
    BadInput("train catch --training.num_env_steps 9223372036854775808", "num_env_steps must be"),
    BadInput("train catch --search.num_simulations 1e8", "between 1 and 100,000"),
    BadInput("train catch --network.num_blocks 1e7", "num_blocks must be between 0 and 1000"),
    BadInput("train catch --num_devices -2", "--num_devices must be at least 0"),
    BadInput("train catch --num_devices 64 --training.num_envs 64", "64 devices", needs_env=True),
    BadInput("train catch --evaluation.final_num_episodes 1e9", "between 1 and 1,000,000"),
    BadInput("train catch --replay.capacity 2e9", "transitions would fit", needs_env=True),
    # Names and paths.
    BadInput("train catch --name ../../evil", "name must be of printable characters"),
    BadInput("train catch --name=", "name must not be empty"),
    BadInput(f"train catch --name {'x' * 300}", "at most 100 bytes"),
    BadInput("train catch --out file/run", "file is no folder", {"file": ""}),
    BadInput(f"train catch --out {'y' * 300}", "a name of 300 bytes"),
    BadInput("train catch --out .", "is not empty", {"note.txt": "mine"}),
    BadInput("train catch --out RUN", "holds a run already"),
    BadInput("train catch --out a\nb", "characters that cannot be printed"),
    # YAML files.
    BadInput("train catch --config no.yaml", "cannot read no.yaml"),
    BadInput("train catch --config .", "cannot read ."),
    BadInput("train catch --config a.yaml", "is not plain YAML", {"a.yaml": "a: ["}),
    BadInput("train catch --config a.yaml", "must hold settings", {"a.yaml": "- seed"}),
    BadInput("train catch --config a.yaml", "unknown setting a.yaml: sed", {"a.yaml": "sed: 1"}),
    BadInput("train catch --config a.yaml", "holds the alias", {"a.yaml": "a: &x 1\nseed: *x"}),
    BadInput("train catch --config a.yaml", "second time", {"a.yaml": "seed: 1\nseed: 2"}),
    BadInput(
        "train catch --config a.yaml",
        "names code outside",
        {"a.yaml": "environment: {name: 'os:system'}"},
    ),
    # Environments.
    BadInput("train catch --environment.name cach", "did you mean catch", needs_env=True),
    BadInput(
        "train catch --environment.name gymnasium:CartPole-v1", "not supported", needs_env=True
    ),
    BadInput("train catch --environment.name brax:ant", "not supported", needs_env=True),
    BadInput(
        "train catch --environment.name gymnax:CartPole-v1:gravty=2",
        "there is no option 'gravty'",
        needs_env=True,
    ),
    BadInput(
        "train catch --environment.name gymnax:NoSuch-v0", "Unknown environment", needs_env=True
    ),
    BadInput("train catch --environment.name pgx:backgammon", "twice in a row", needs_env=True),
    BadInput("train catch --environment.name no_module:make", "there is no module", needs_env=True),
    BadInput("train catch --environment.name catch:rows=x", "catch", needs_env=True),
    BadInput("train catch --environment.name catch:rows=", "is no option", needs_env=True),
    _env("train catch --environment.name my_env:mak", "has no environment 'mak'"),
    _env("train catch --environment.name my_env:fails", "RuntimeError: no such level"),
    _env("train catch --environment.name my_env:nothing", "no member spec"),
    _env("train catch --environment.name my_env:make:size=3", "it takes: kind"),
    *(
        _env(f"train catch --environment.name my_env:make:kind={kind}", "my_env:make")
        for kind in (
            "dict",
            "scalar",
            "shape",
            "mask",
            "discount",
            "stuck",
            "infinite",
            "branch",
            "noise",
        )
    ),
    # Runs.
    BadInput("evaluate", "RUN"),
    BadInput("evaluate nowhere", "is not a run folder: there is no such folder"),
    BadInput("evaluate .", "is not a run folder: it holds no config.yaml"),
    BadInput(f"evaluate {'z' * 300}", "z"),
    BadInput("evaluate RUN --episodes 0", "--episodes must be between 1"),
    BadInput("evaluate RUN --episodes 1e9", "episodes"),
    BadInput("evaluate RUN --seed 99999999999999999999", "--seed must be between"),
    BadInput("evaluate RUN --seed -1", "--seed must be between 0"),
    BadInput("evaluate RUN --checkpoint 7", "checkpoint", needs_env=True),
    BadInput("evaluate RUN --checkpoint newest", "checkpoint", needs_env=True),
    BadInput("evaluate RUN --environment.name CartPole-v1", "was trained on catch", needs_env=True),
    BadInput("evaluate bad", "cannot be used", {"bad/config.yaml": "seed: ["}),
    BadInput("evaluate bad", "settings must be NAME", {"bad/config.yaml": "nonsense"}),
    BadInput("evaluate bad", "no checkpoint", {"bad/config.yaml": "seed: 1"}, needs_env=True),
    BadInput("play RUN --gif note.txt", "no GIF file", {"note.txt": "mine"}),
    BadInput("play RUN --gif .", "is a folder"),
    BadInput("play RUN --gif note.txt/a.gif", "is no folder", {"note.txt": "mine"}),
    BadInput("play RUN --episodes -3", "--episodes must be between 1"),
    BadInput("inspect RUN --step -1", "--step must be at least 0"),
    BadInput("inspect RUN --out note.txt", "is no folder", {"note.txt": "mine"}),
    BadInput("diagnose", "muzero diagnose needs RUN"),
    BadInput("diagnose nowhere", "is not a run folder"),
    BadInput("diagnose RUN --depth 0", "--depth must be between 1"),
    BadInput("diagnose RUN --steps 3", "--steps (3) must be at least --depth (5)"),
    BadInput("diagnose RUN --out note.txt", "no PNG file", {"note.txt": "mine"}),
    BadInput("diagnose RUN --checkpoint 7", "checkpoint", needs_env=True),
    BadInput("plot", "muzero plot needs RUNS"),
    BadInput("plot nowhere", "no run folder"),
    BadInput("plot RUN --out note.txt", "no PNG file", {"note.txt": "mine"}),
    BadInput("train --resume nowhere", "is not a run folder"),
    BadInput("train --resume", "resume needs a value"),
    BadInput("train --resume RUN --seed 3", "found --seed"),
    BadInput("train --resume RUN --training.num_env_steps 64", "can only be raised"),
    BadInput("train catch --init-from nowhere", "is not a run folder", needs_env=True),
    BadInput("train catch --restart", "--restart begins a run anew that --resume names"),
    # Sweeps and reports.
    BadInput("sweep", "name an experiment or a YAML file first"),
    BadInput("sweep catch", "--out DIR is missing"),
    BadInput("sweep catch --out s --seeds 0", "--seeds must be between 1 and 100,000"),
    BadInput("sweep catch --out s --seeds 1e8", "seeds"),
    BadInput("sweep catch --out s --set learning_rate", "cannot vary 'learning_rate'"),
    BadInput("sweep catch --out s --set learning_rat=1", "did you mean"),
    BadInput("sweep catch --out s --set learning_rate=1..0", "is empty"),
    BadInput("sweep catch --out s --set learning_rate=1e-4..1e-2 --points 100000000", "points"),
    BadInput("sweep catch --out s --set seed=1,2", "use --seeds"),
    BadInput("sweep catch --out s --study x", "a study needs"),
    BadInput("sweep catch --out s --trials 3", "goes with --study NAME only"),
    BadInput("sweep catch --out note.txt", "note.txt", {"note.txt": "mine"}),
    BadInput("sweep --resume nowhere", "is not a sweep folder"),
    BadInput("sweep a.yaml --out s", "unknown 'sets'", {"a.yaml": "{experiment: catch, sets: 1}"}),
    BadInput(
        "sweep a.yaml --out s", "names code outside", {"a.yaml": "experiment: x.py", "x.py": "1/0"}
    ),
    BadInput("report nowhere", "is not a sweep folder"),
    BadInput("report .", "is not a sweep folder"),
    # Profiles and oracles.
    BadInput("profile search --batch 0", "--batch must be between 1"),
    BadInput("profile search --simulations 100000000", "--simulations must be"),
    BadInput("profile search --run nowhere", "is not a run folder"),
    BadInput("profile loop", "experiment"),
    BadInput("profile loop cartpol", "did you mean cartpole"),
    BadInput("oracle", "ENV"),
    BadInput("oracle CartPole-v1", "is not tabular", needs_env=True),
    BadInput("oracle maze --discount 2", "--discount must be between 0 and 1"),
    BadInput("oracle maze:slip=2", "slip", needs_env=True),
    BadInput("oracle maze --figure .", "is a folder"),
)


def run_alone(bad: BadInput, run: Path) -> tuple[int, str, float, list[str]]:
    """Exit code, stderr, seconds of CPU time, and what is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in bad.files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = [sys.executable, "-m", "muzero_jax", *arguments(bad, run)]
        environment = {k: v for k, v in os.environ.items() if k != "MUZERO_TRUST"}
        done = subprocess.run(
            program, cwd=folder, capture_output=True, text=True, timeout=300, env=environment
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        left = left_behind(Path(folder), bad)
    return done.returncode, done.stderr, seconds, left


def arguments(bad: BadInput, run: Path) -> list[str]:
    """The arguments as the command gets them."""
    return [str(run) if word == "RUN" else word for word in bad.args.split(" ")]


def left_behind(folder: Path, bad: BadInput) -> list[str]:
    """What lies in the working folder that was not there before."""
    found = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return [
        str(p.relative_to(folder)) for p in found if str(p.relative_to(folder)) not in bad.files
    ]


def faults_of(bad: BadInput, code: int, error: str, left: list[str]) -> list[str]:
    """What is wrong with how a mistake was answered; nothing where all is as it should be."""
    last = error.rstrip("\n").rpartition("\n")[2]
    faults = [f"exit code {code}"] if code != 2 else []
    faults += ["a traceback"] if "Traceback" in error else []
    # A command may have said before what it does.
    sentences = [line for line in error.splitlines() if line.startswith("error: ")]
    faults += [f"no one sentence: {error!r}"] if sentences != [last] else []
    faults += [f"it lacks {bad.told!r}: {last!r}"] if bad.told not in last else []
    return faults + ([f"left behind: {left}"] if left else [])


def main() -> int:
    from tiny_run import TINY

    from muzero_jax.process.compilation_cache import enable_compilation_cache
    from muzero_jax.runs.runner import train

    enable_compilation_cache()
    place = Path(tempfile.mkdtemp())
    train(TINY, place / "run")
    num_faulty = 0
    for bad in BAD_INPUTS:
        code, error, seconds, left = run_alone(bad, place / "run")
        faults = faults_of(bad, code, error, left)
        limit = 10.0 if bad.needs_env else 1.0
        faults += [f"more than {limit:g} s"] if seconds > limit else []
        num_faulty += bool(faults)
        print(f"{seconds:6.2f} s  {'; '.join(faults) or 'good'}  {bad.args[:70]!r}", flush=True)
    shutil.rmtree(place)
    print(f"{len(BAD_INPUTS) - num_faulty} of {len(BAD_INPUTS)} good")
    return min(num_faulty, 1)


if __name__ == "__main__":
    sys.exit(main())
