"""The import rules of DESIGN §3 and STYLE §1, by AST: deferred imports count, TYPE_CHECKING ones don't."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ROOMS = {
    "serve": (
        "sessions", "embedding", "io", "capability", "features", "model", "bundle", "scoring", "jobs",
        "infrastructure", "campaigns", "batch", "following", "adaptation", "monitoring", "live", "gateways", "analyst",
        "http", "commands",
    ),
    "train": (
        "corpora", "synthesis", "encoders", "taxonomy", "learning", "evaluation", "config", "inputs", "reports",
        "tracking", "experiments",
    ),
}  # fmt: skip
"""Rooms in order: a room imports only rooms before it. What lies beside the rooms sees all of them."""

BESIDE = {
    "serve": {"__init__.py", "cli.py"},
    "train": {
        "__main__.py", "ablation.py", "adaptation.py", "areas.py", "communities.py", "demo.py", "measure.py",
        "pictures.py", "promote.py", "redteam.py", "release.py", "reproduce.py", "reseeding.py", "seeds.py",
        "traffic.py",
    },
}  # fmt: skip
"""Files beside the rooms; in train/ each is a command, typed after `python -m`."""

MAX_FILES = 14

OWNERS = {
    "faiss": {"serve/capability/vector_index.py"},
    "rbloom": {"serve/features/known_prompts.py"},
    "numkong": {"serve/embedding/int8_products.py"},
    "datasets": {"train/corpora/loading.py"},
    "mlflow": {"train/tracking/mlflow_runs.py", "train/tracking/mlflow_model.py"},
    "hydra": {"train/experiments/run.py"},
    "omegaconf": {"train/experiments/run.py", "train/config/settings.py"},
    "sentence_transformers": {"serve/embedding/encoders.py", "train/encoders/distillation.py"},
}
"""The only files that may import a heavy package."""

FORBIDDEN_IN_SERVE = {"train", "hydra", "omegaconf", "mlflow", "datasets", "model2vec"}
LIGHT = "torch", "sentence_transformers", "hydra", "omegaconf", "mlflow", "datasets", "train"


@dataclass(frozen=True)
class Import:
    """One name that a file imports, as a dotted path, and whether only when a function runs."""

    file: str
    line: int
    target: str
    is_deferred: bool

    @property
    def package(self) -> str:
        return self.target.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


class _Reader(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file, self.depth, self.found = file, 0, list[Import]()

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node.lineno, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parents = Path(self.file).parent.parts
        base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
        prefix = base if node.level else node.module or ""
        for alias in node.names:
            self._add(node.lineno, f"{prefix}.{alias.name}")

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        by_name = name.endswith("import_module") or name == "__import__"
        if by_name and node.args and isinstance(node.args[0], ast.Constant):
            self._add(node.lineno, str(node.args[0].value))
        self.generic_visit(node)

    def _add(self, line: int, target: str) -> None:
        self.found.append(Import(self.file, line, target, self.depth > 0))


def imports_of(file: str, source: str) -> list[Import]:
    """All imports of one source text."""
    reader = _Reader(file)
    reader.visit(ast.parse(source))
    return reader.found


def files(package: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / package).rglob("*.py")) if "__pycache__" not in path.parts)


def module_of(target: str) -> str | None:
    """The file, relative to the root, that holds what is imported; None where it isn't ours."""
    parts = target.split(".")
    if parts[0] not in {"serve", "train"}:
        return None
    for n in range(len(parts), 0, -1):
        for name in ("/".join(parts[:n]) + ".py", "/".join([*parts[:n], "__init__.py"])):
            if (ROOT / name).is_file():
                return name
    return None


@functools.cache
def all_imports() -> tuple[Import, ...]:
    """All imports of both packages."""
    return tuple(
        found
        for package in ("serve", "train")
        for path in files(package)
        for found in imports_of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    )


def test_the_reader_sees_deferred_relative_and_named_imports_but_no_type_checking() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import secret
else:
    import shown
def f():
    from . import sibling
    from .deep.er import thing
    importlib.import_module("named.late")
    return lambda: __import__("hidden")
"""
    found = {(entry.target, entry.is_deferred) for entry in imports_of("serve/a.py", source)}
    assert found == {
        ("typing.TYPE_CHECKING", False),
        ("shown", False),
        ("serve.sibling", True),
        ("serve.deep.er.thing", True),
        ("named.late", True),
        ("hidden", True),
    }


def test_serve_never_imports_the_workshop() -> None:
    assert [
        str(found) for found in all_imports() if found.file.startswith("serve/") and found.package in FORBIDDEN_IN_SERVE
    ] == []


def test_serve_asks_pyarrow_for_nothing_that_needs_pandas() -> None:
    assert [path.name for path in files("serve") if ".to_pandas" in path.read_text(encoding="utf-8")] == []


def test_train_imports_serve() -> None:
    assert any(found.file.startswith("train/") and found.package == "serve" for found in all_imports())


@pytest.mark.parametrize("package", OWNERS)
def test_a_heavy_package_has_its_owners(package: str) -> None:
    strangers = [
        str(found) for found in all_imports() if found.package == package and found.file not in OWNERS[package]
    ]
    assert strangers == []


def test_sentence_transformers_is_only_imported_inside_functions() -> None:
    early = [
        str(found) for found in all_imports() if found.package == "sentence_transformers" and not found.is_deferred
    ]
    assert early == []


def room_of(file: str) -> str | None:
    """The room that a file lies in; None beside the rooms."""
    parts = file.split("/")
    return parts[1] if len(parts) > 2 else None


@pytest.mark.parametrize("package", ROOMS)
def test_every_file_lies_in_a_room_or_is_known_beside_them(package: str) -> None:
    found = [path.relative_to(ROOT).as_posix() for path in files(package)]
    assert {room_of(file) for file in found} - {None} == set(ROOMS[package])
    assert {Path(file).name for file in found if room_of(file) is None} == BESIDE[package]


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_has_a_door_and_few_files(package: str) -> None:
    for room in ROOMS[package]:
        own = [path.name for path in (ROOT / package / room).glob("*.py")]
        assert ast.get_docstring(ast.parse((ROOT / package / room / "__init__.py").read_text(encoding="utf-8"))), room
        assert len(own) <= MAX_FILES, f"{package}/{room} holds {len(own)} files"
        for inner in (path for path in (ROOT / package / room).rglob("*") if path.is_dir() and path.name != "formats"):
            assert len(list(inner.glob("*.py"))) <= MAX_FILES, f"{inner} holds more files than a room may"


DOORS = [path for package in ROOMS for path in sorted((ROOT / package).glob("*/__init__.py"))]


@pytest.mark.parametrize("door", DOORS, ids=[f"{path.parts[-3]}-{path.parts[-2]}" for path in DOORS])
def test_a_door_names_what_is_there(door: Path) -> None:
    text = ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))) or ""
    listed = [name.partition(".") for name in re.findall(r"`([a-z_]\w*(?:\.\w+)?)`", text)]
    for module, _, name in (parts for parts in listed if parts[0] not in {"serve", "stillwatch"}):
        tree = ast.parse((door.parent / f"{module}.py").read_text(encoding="utf-8"))
        assert not name or re.search(rf"^(?:def |class )?{name}\b", ast.unparse(tree), re.MULTILINE), f"{module}.{name}"


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_rooms_before_it(package: str) -> None:
    upward = []
    for found in all_imports():
        target, own = module_of(found.target), room_of(found.file)
        if own is None or target is None or Path(target).parts[0] != package or Path(found.file).parts[0] != package:
            continue
        theirs = room_of(target)
        if theirs is None or ROOMS[package].index(theirs) > ROOMS[package].index(own):
            upward.append(str(found))
    assert upward == []


def test_tests_lie_in_the_rooms_of_what_they_test() -> None:
    parents = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    folders = {"/".join(parent.parts[:2]) or "." for parent in parents}
    known = {f"{package}/{room}" for package in ROOMS for room in ROOMS[package]} | {".", "serve", "bench"}
    assert folders - known == set()


def test_there_is_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for found in all_imports():
        target = module_of(found.target)
        if target is not None and target != found.file:
            graph.setdefault(found.file, set()).add(target)
    # Raises CycleError, which names the files of the circle.
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_no_file_is_called_utils_or_helpers() -> None:
    names = {"utils", "util", "helpers", "helper", "common", "misc"}
    bags = [str(path) for package in ("serve", "train") for path in files(package) if path.stem in names]
    assert bags == []


def test_importing_serve_loads_nothing_heavy() -> None:
    code = f"import sys, serve; print(sorted(set({LIGHT!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
