"""The import rules of DESIGN §3 and STYLE §1, by AST: deferred imports count, TYPE_CHECKING ones don't."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ORDER = (
    "wrappers",
    "session", "pieces", "encoder", "discriminant", "products", "capabilities", "coverage", "surface", "geometry",
    "words", "evidence", "ridge", "features", "booster", "experts", "classifier", "calibration", "fitting",
    "systematicness", "benign", "verdict", "bundle", "reasons", "scorer", "__init__",
    "moments", "sources", "rows", "lines", "columns", "exchanges", "outputs", "timeline", "partition", "martingale",
    "accounts",
    "skeletons", "sketches", "neighbours", "blend", "signs", "synchrony", "campaigns", "indicators",
    "seal", "opening", "comparison", "growth", "stores", "live",
    "work", "tasks", "engines", "progress", "summary", "batch", "adapt",
    "archive", "inquiry", "drift", "layout", "map", "card", "ledger", "chart", "roster", "atlas", "plane", "dossier",
    "report", "feedback", "problems", "keys", "bodies", "schemas", "metrics", "desk", "gate", "docket", "page",
    "app", "server", "cli", "__main__",
)  # fmt: skip
"""serve/ as the README lists it: a file imports only files above it."""

OWNERS = {
    "faiss": {"serve/capabilities.py"},
    "numkong": {"serve/products.py"},
    "datasets": {"train/corpora.py"},
    "mlflow": {"train/tracking.py", "train/pyfunc.py"},
    "hydra": {"train/run.py"},
    "omegaconf": {"train/run.py", "train/settings.py"},
    "sentence_transformers": {"serve/encoder.py", "train/distill.py"},
}
"""The only files that may import a heavy package."""

FORBIDDEN_IN_SERVE = {"train", "hydra", "omegaconf", "mlflow", "datasets"}
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


IMPORTS = [
    found
    for package in ("serve", "train")
    for path in files(package)
    for found in imports_of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
]


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
        str(found) for found in IMPORTS if found.file.startswith("serve/") and found.package in FORBIDDEN_IN_SERVE
    ] == []


def test_train_imports_serve() -> None:
    assert any(found.file.startswith("train/") and found.package == "serve" for found in IMPORTS)


@pytest.mark.parametrize("package", OWNERS)
def test_a_heavy_package_has_its_owners(package: str) -> None:
    strangers = [str(found) for found in IMPORTS if found.package == package and found.file not in OWNERS[package]]
    assert strangers == []


def test_sentence_transformers_is_only_imported_inside_functions() -> None:
    early = [str(found) for found in IMPORTS if found.package == "sentence_transformers" and not found.is_deferred]
    assert early == []


def test_every_file_of_serve_has_a_place_in_the_order() -> None:
    assert sorted({path.stem for path in files("serve")} - set(ORDER)) == []


def test_a_file_of_serve_imports_only_files_above_it() -> None:
    place = {f"serve/{name}.py": index for index, name in enumerate(ORDER)}
    upward = []
    for found in IMPORTS:
        target = module_of(found.target)
        if found.file in place and target in place and place[target] >= place[found.file]:
            upward.append(str(found))
    assert upward == []


def test_there_is_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
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
