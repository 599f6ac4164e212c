"""The base install is Apache-2.0: nothing that it pulls in may be under the GPL or AGPL."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LESSER = re.compile(r"\bLGPL|Lesser General Public", re.IGNORECASE)
STRONG = re.compile(r"\bA?GPL|\b(Affero )?General Public Licen[sc]e", re.IGNORECASE)


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """Distributions that these requirements pull in, by name; markers are those of this machine."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(line, "") for line in requirements]
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found[name] = distribution(name)
        for asked in {(name, own) for own in ("", *requirement.extras)} - seen:
            seen.add(asked)
            waiting += [(further, asked[1]) for further in found[name].requires or []]
    return found


def licence(of: Distribution) -> str:
    """What a distribution's metadata say of its licence, on one line; of a long text only the title."""
    plain = of.metadata.get("License") or ""  # a backport that other libraries load raises for one that is missing
    stated = of.metadata.get_all("License-Expression") or [plain.strip().split("\n")[0][:80]]
    classifiers = [line for line in of.metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    return "; ".join([*filter(None, stated), *classifiers])


def is_strong(text: str) -> bool:
    """Whether a licence is GPL or AGPL; the LGPL lets a permissive program use it, and a choice with OR is ours."""
    if " OR " in text:
        return all(map(is_strong, text.split(" OR ")))
    return any(STRONG.search(part) and not LESSER.search(part) for part in text.split("; "))


@pytest.fixture(scope="module")
def base() -> dict[str, Distribution]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return needed(project["dependencies"])


def test_nothing_in_the_base_install_is_under_the_gpl(base: dict[str, Distribution]):
    assert {name: licence(of) for name, of in base.items() if is_strong(licence(of))} == {}


def test_every_package_of_the_base_install_states_a_licence(base: dict[str, Distribution]):
    assert len(base) > 12
    assert [name for name, of in base.items() if not licence(of)] == []


@pytest.mark.parametrize(
    "text",
    [
        "GPL-3.0-or-later",
        "GNU General Public License (GPL)",
        "AGPL-3.0-only",
        "MIT; License :: OSI Approved :: GNU Affero General Public License v3",
        "GPL-2.0-only OR AGPL-3.0-only",
    ],
)
def test_the_gpl_is_recognised(text: str):
    assert is_strong(text)


@pytest.mark.parametrize("text", ["MIT", "LGPL-2.1-only", "GPL-2.0-only OR MIT", "GNU Lesser General Public License"])
def test_what_permits_our_use_is_not_taken_for_the_gpl(text: str):
    assert not is_strong(text)
