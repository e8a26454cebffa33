"""The pin file decides every version: it names all packages that are needed, with their extras."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).parents[1] / "requirements" / "dev.txt"
PROJECT = Requirement("muzero-jax[dev]")


def read_pins(text: str) -> dict[str, Requirement]:
    """The pins that hold for this interpreter and system, by normalised name."""
    lines = re.findall(r"^([A-Za-z0-9][^\\\n]*?)\s*\\?$", text, re.MULTILINE)
    pins = [Requirement(line) for line in lines]
    return {
        canonicalize_name(pin.name): pin for pin in pins if not pin.marker or pin.marker.evaluate()
    }


def needed(requirement: Requirement) -> Iterator[Requirement]:
    """The requirements that installed metadata states for `requirement`, its extras included."""
    for text in importlib.metadata.requires(requirement.name) or ():
        found = Requirement(text)
        extras = ["", *requirement.extras]
        if not found.marker or any(found.marker.evaluate({"extra": extra}) for extra in extras):
            yield found


def problems_of(pins: dict[str, Requirement]) -> list[str]:
    """What a hashed installation of `pins` would have to choose by itself."""
    problems, seen, waiting = [], set(), [PROJECT]
    while waiting:
        requirement = waiting.pop()
        for found in needed(requirement):
            name = canonicalize_name(found.name)
            if name == PROJECT.name:
                waiting.append(found)
                continue
            pin = pins.get(name)
            if pin is None:
                problems.append(f"{requirement.name} needs {found}, which is not pinned")
            elif not found.extras <= pin.extras:
                problems.append(f"{requirement.name} needs {found}, but the pin is {pin}")
            elif (key := (name, frozenset(found.extras))) not in seen:
                seen.add(key)
                waiting.append(Requirement(f"{name}[{','.join(found.extras)}]"))
    return problems


def test_pins_name_every_package_and_every_extra_that_is_asked_for() -> None:
    pins = read_pins(PINS.read_text(encoding="utf-8"))
    assert len(pins) > 50
    assert not problems_of(pins)


@pytest.mark.parametrize(
    ("written", "instead", "told"),
    [
        ("coverage[toml]==", "coverage==", "but the pin is coverage=="),
        ("\nnumpy==", "\n#", "numpy"),
    ],
)
def test_a_pin_without_its_extra_and_a_missing_pin_are_found(
    written: str, instead: str, told: str
) -> None:
    text = PINS.read_text(encoding="utf-8")
    assert written in text
    assert any(
        told in problem for problem in problems_of(read_pins(text.replace(written, instead)))
    )


def test_every_pin_has_a_version_and_a_hash() -> None:
    text = PINS.read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2])
    for entry in entries[1:]:
        assert re.match(r"\S+(, \S+\])?==\S+ ", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]
