"""A file imports only from floors below its own: docs/architecture.md, enforced on the source."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "muzero_jax"

# Rooms of one floor are siblings and do not know each other.
FLOORS = (
    ("core",),
    ("maths", "reports"),
    ("envs", "search", "process", "checkpoints"),
    ("networks", "replay"),
    ("agents",),
    ("config",),
    ("settings", "presets"),
    ("training",),
    ("tracking",),
    ("runs",),
    ("sweeps", "profiling", "viewing", "tabular"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=1) for room in rooms}
# Environment suites come with extras: an adapter imports them inside functions only.
SUITES = {"gymnax", "pgx", "gymnasium"}
EXTRAS = SUITES | {"matplotlib", "pandas", "PIL", "tensorboardX", "wandb", "optuna", "ray"}


class Import:
    """One import of a file: the module's dotted name, and whether it runs with the file."""

    def __init__(self, module: str, is_top_level: bool, line: int):
        self.module, self.is_top_level, self.line = module, is_top_level, line


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """All imports of a file; those of `if TYPE_CHECKING` count as well."""

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, top, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "muzero_jax":
                names = [f"muzero_jax.{alias.name}" for alias in node.names]
                yield from (Import(name, top, node.lineno) for name in names)
            else:
                yield Import(node.module or "", top, node.lineno)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        # The block is for the type checker only: nothing in it runs.
        inside |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            yield from walk(child, top and not inside)

    return tuple(walk(tree_of(path), True))


def room_of(module: str) -> str:
    """`muzero_jax.search.policies` to `search`."""
    return module.split(".")[1]


def files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def own_room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def wrong_imports(path: Path, room: str) -> list[str]:
    """What `path`, a file of `room`, imports from above or from a sibling."""
    found = []
    for item in imports_of(path):
        if not item.module.startswith("muzero_jax."):
            continue
        other = room_of(item.module)
        is_below = FLOOR_OF[other] < FLOOR_OF[room]
        if other != room and not is_below:
            found.append(f"{path.name}:{item.line}: {room} must not import {item.module}")
    return found


def test_every_room_has_a_floor():
    assert {own_room(path) for path in files()} - {"_experiments"} <= set(FLOOR_OF)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_below(path):
    assert not wrong_imports(path, own_room(path))


@pytest.mark.parametrize(
    "room,line,is_wrong",
    [
        ("maths", "from muzero_jax.config import SearchConfig", True),
        ("search", "import muzero_jax.agents.base", True),
        ("search", "from muzero_jax.envs.base import Environment", True),
        ("replay", "from muzero_jax.networks.model import MuZeroModel", True),
        ("envs", "def f():\n    from muzero_jax.training import loop", True),
        ("envs", "from muzero_jax import agents", True),
        ("training", "from muzero_jax.config import SearchConfig", False),
        ("agents", "from muzero_jax.networks.model import MuZeroModel", False),
        ("agents", "from muzero_jax.agents.base import Agent", False),
    ],
)
def test_the_walk_sees_what_it_should(tmp_path, room, line, is_wrong):
    path = tmp_path / "file.py"
    path.write_text(line + "\n")
    assert bool(wrong_imports(path, room)) == is_wrong


def test_no_two_files_import_each_other():
    """Inside a room too there are no circles."""
    names = {
        path: "muzero_jax." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files()
    }
    below = {
        name: {i.module for i in imports_of(path)} & set(names.values())
        for path, name in names.items()
    }
    while below:
        free = {name for name, needs in below.items() if not needs & set(below)}
        assert free, f"circular imports among {sorted(below)}"
        below = {name: needs for name, needs in below.items() if name not in free}


def test_only_search_imports_mctx():
    rooms = {
        own_room(p) for p in files() for i in imports_of(p) if i.module.split(".")[0] == "mctx"
    }
    assert rooms == {"search"}


def test_only_networks_import_flax_modules():
    modules = ("flax.linen", "flax.nnx")
    for path in files():
        tree = tree_of(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "flax":
                names = {f"flax.{alias.name}" for alias in node.names}
                assert not names & set(modules) or own_room(path) == "networks", path


def imported_with(path: Path, seen: set[Path]) -> set[str]:
    """What is imported with a file, through all files of this package that it imports."""
    found: set[str] = set()
    for item in imports_of(path):
        if not item.is_top_level:
            continue
        found.add(item.module.split(".")[0])
        parts = item.module.split(".")[1:] if item.module.startswith("muzero_jax.") else []
        nearby = [ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
        for place in nearby:
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file() and file not in seen:
                    seen.add(file)
                    found |= imported_with(file, seen)
    return found


WITHOUT_JAX = [
    *(ROOT / name for name in ("__init__.py", "settings.py", "presets.py", "tabular/presets.py")),
    *(ROOT / "agents" / name for name in ("definition.py", "registry.py")),
    *(ROOT / "config").glob("*.py"),
    *(p for p in (ROOT / "cli").glob("*.py") if p.stem != "study"),
    *ROOT.glob("**/settings.py"),
    *(ROOT / name / "__init__.py" for name in ("agents/muzero", "tabular/agents")),
]


@pytest.mark.parametrize("path", WITHOUT_JAX, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_and_commands_are_loaded_without_jax(path):
    """What `muzero --help` loads: no JAX at the top of any file."""
    heavy = {"jax", "flax", "optax", "chex", "mctx", "orbax", "numpy"}
    assert not imported_with(path, {path}) & heavy


@pytest.mark.parametrize("room", sorted({str(p.parent.relative_to(ROOT)) for p in files()} - {"."}))
def test_a_room_is_small_enough_to_be_known(room):
    assert len([p for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"]) <= 15


def test_tables_are_known_by_name_only_below_their_room():
    """Nothing but a string says that there are tables, in the rooms that they stand on."""
    below = [p for p in files() if FLOOR_OF[own_room(p)] < FLOOR_OF["tabular"]]
    for path in below:
        words = {n.id for n in ast.walk(tree_of(path)) if isinstance(n, ast.Name)}
        assert not {word for word in words if "tabular" in word.lower()}, path


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_extras_are_imported_inside_functions(path):
    tops = {i.module.split(".")[0] for i in imports_of(path) if i.is_top_level}
    assert not tops & EXTRAS, f"{path} imports {tops & EXTRAS} at its top"


def test_suites_are_imported_by_adapters_only():
    for path in files():
        if {i.module.split(".")[0] for i in imports_of(path)} & SUITES:
            assert own_room(path) == "envs", path


def test_no_private_jax_or_mctx_imports():
    for path in files():
        for item in imports_of(path):
            parts = item.module.split(".")
            if parts[0] in {"jax", "mctx", "flax", "optax"}:
                assert not any(part.startswith("_") for part in parts), f"{path}:{item.line}"


# Methods and functions that read or write text in the encoding of the machine, unless told another.
TEXT_CALLS = {"open", "fdopen", "read_text", "write_text", "TextIOWrapper"}


def texts_without_encoding(path: Path) -> Iterator[str]:
    """Calls that open text, or talk to a process in text, and name no encoding."""
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        options = {keyword.arg for keyword in node.keywords}
        words = [x.value for x in ast.walk(node) if isinstance(x, ast.Constant)]
        is_binary = any(x in ("rb", "wb", "ab", "xb", "r+b") for x in words)
        is_descriptor = ast.unparse(node.func) in ("os.open", "webbrowser.open", "Image.open")
        # `write_text` of this package, which is no method, names the encoding itself.
        is_own = isinstance(node.func, ast.Name) and name.endswith("_text")
        opens_text = name in TEXT_CALLS and not (is_binary or is_descriptor or is_own)
        asks_for_text = bool({"text", "universal_newlines"} & options)
        if (opens_text or asks_for_text) and "encoding" not in options:
            yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


PROGRAMS = [
    path
    for name in ("src", "scripts", "experiments")
    for path in (ROOT.parents[1] / name).rglob("*.py")
]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT.parents[1])))
def test_text_is_read_and_written_in_a_named_encoding(path):
    assert not list(texts_without_encoding(path))
