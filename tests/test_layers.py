"""The house holds its rows: who may import whom, what may load when, how long a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("toolkit", "export", "serve")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Lower rows first; within a row a module may import what stands to its left. A new module needs a place here.
ROWS = {
    "leaves": (
        "errors tasks metrics config console embedded tables words text bundle machine stats timing footprint claims "
        "decomposition findings regressions plots page report curves runreport service load"
    ),
    "light": "data corpus vectors steps predictor provenance",
    "torch": (
        "processes precision architectures trace losses lowrank student hub maskedlm candidates states initialise "
        "starts objectives checkpoint training fakequant teacher peers subjects contenders comparisons replicates "
        "scenarios"
    ),
    "recipes": "finetune distill general augment bench demo",
    "entry": "options cli __main__",  # and serve.__main__, to the left of these
}
# Recipes that are packages: leftward inside, and never another recipe.
RECIPE_PACKAGES = {
    "export": (
        "graph editing layout rounding calibrate activations tables sensitivity quantize "
        "vocabulary corpus verify candidates tune triton pipeline"
    ),
    "serve": (
        "schemas bodies metrics limits cost errors security logs tracing workers tokenization waiting batching replay "
        "models shutdown connection answers playground routes hugging_face protocol admin app processes ray_app"
    ),
}
SERVE_MAY_USE = {f"toolkit.{name}" for name in (*ROWS["leaves"].split(), "predictor")}

HEAVY = {
    "torch", "transformers", "onnx", "onnxruntime", "datasets", "sklearn", "scipy", "matplotlib", "optimum",
    "accelerate", "pyarrow", "pandas", "ctranslate2", "openvino", "nncf",
}  # fmt: skip
LIGHT_MODULES = {
    f"toolkit.{name}" for row in ("leaves", "light", "entry") for name in ROWS[row].split()
} | {"toolkit.bench", "toolkit.demo", "toolkit"}  # fmt: skip

MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 60


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(source: str, *, package: str, top_only: bool = False) -> set[str]:
    """Dotted names a module imports; `from a import b` gives a.b. `top_only`: those that run at import."""
    found: set[str] = set()
    for node in top_level(ast.parse(source)) if top_only else ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def top_level(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs at import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from top_level(child)


def place(module: str) -> tuple[int, int] | None:
    """(row, column) of a module, or None when it has none yet."""
    package, _, name = module.partition(".")
    if package in RECIPE_PACKAGES:
        columns = RECIPE_PACKAGES[package].split()
        if module == "serve.__main__":
            return (list(ROWS).index("entry"), -1)
        return (3, columns.index(name)) if name in columns else None
    name = name.partition(".")[0]  # what lies in a package of toolkit's shares the package's place
    for row, names in enumerate(ROWS.values()):
        if name in names.split():
            return (row, names.split().index(name))
    return None


def resolve(name: str, known: set[str]) -> str | None:
    """The module of ours behind an imported name such as toolkit.errors.ToolkitError, or None."""
    while name:
        if name in known and "." in name:
            return name
        name = name.rpartition(".")[0]
    return None


def layer_faults(modules: dict[str, str]) -> list[str]:
    """What breaks the rows in {module name: source}."""
    faults = []
    for module, source in modules.items():
        if "." not in module:  # a package's __init__ stays free of our own imports
            used = {name for name in imports(source, package=module) if name.split(".")[0] in PACKAGES}
            faults += [f"{module}/__init__.py imports {name}" for name in used]
            continue
        here = place(module)
        if here is None:
            faults.append(f"{module} has no place in the rows: give it one in tests/test_layers.py")
            continue
        for name in imports(source, package=module.split(".")[0]):
            target = resolve(name, set(modules))
            if target is not None and target != module and not may_import(module, target):
                faults.append(f"{module} may not import {target}")
    return faults


def may_import(module: str, target: str) -> bool:
    here, there = place(module), place(target)
    if here is None or there is None:
        return False
    if module.split(".")[:2] == target.split(".")[:2]:  # side by side in one package of toolkit's
        return True
    package, other = module.split(".")[0], target.split(".")[0]
    if package == "serve" and other != "serve":
        return target in SERVE_MAY_USE
    if there[0] != here[0]:
        return there[0] < here[0]
    if here[0] == list(ROWS).index("recipes"):
        return module == "toolkit.demo" or (package == other != "toolkit" and there[1] < here[1])
    return there[1] < here[1]


def sources() -> dict[str, str]:
    return {module_name(path): path.read_text(encoding="utf-8") for path in FILES}


def test_every_module_keeps_to_its_row() -> None:
    assert layer_faults(sources()) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("toolkit.errors", "import toolkit.tasks", "toolkit.errors may not import toolkit.tasks"),
        ("toolkit.tasks", "def f():\n    from toolkit.data import Split", "toolkit.tasks may not import toolkit.data"),
        ("toolkit.text", "from . import bundle", "toolkit.text may not import toolkit.bundle"),
        ("toolkit.distill", "from toolkit import finetune", "toolkit.distill may not import toolkit.finetune"),
        ("toolkit.bench", "from export.graph import fuse", "toolkit.bench may not import export.graph"),
        ("export.graph", "from export import pipeline", "export.graph may not import export.pipeline"),
        ("export.pipeline", "from toolkit.cli import app", "export.pipeline may not import toolkit.cli"),
        ("serve.app", "from toolkit.data import Split", "serve.app may not import toolkit.data"),
        ("serve.app", "from toolkit.student import make", "serve.app may not import toolkit.student"),
        ("toolkit.helpers", "", "toolkit.helpers has no place in the rows: give it one in tests/test_layers.py"),
        ("toolkit", "from toolkit.errors import require", "toolkit/__init__.py imports toolkit.errors.require"),
    ],
)
def test_a_forbidden_import_is_caught(module: str, source: str, fault: str) -> None:
    names = "errors tasks text bundle data student finetune distill bench cli"
    made_up = {f"toolkit.{name}": "" for name in names.split()} | {"export.graph": "", "export.pipeline": ""}
    assert layer_faults(made_up | {module: source}) == [fault]


def test_allowed_imports_pass() -> None:
    made_up = {
        "toolkit.errors": "import json", "toolkit.tasks": "from toolkit.errors import ToolkitError",
        "toolkit.data": "from toolkit.tasks import Task", "toolkit.predictor": "from .tasks import Task",
        "export.graph": "from toolkit.data import Split", "export.pipeline": "from export import graph",
        "serve.app": "from toolkit.predictor import Predictor",
        "toolkit.demo": "import export.pipeline\nimport serve.app", "toolkit.cli": "from toolkit.demo import run",
    }  # fmt: skip
    assert layer_faults(made_up) == []


def heavy_at_top(module: str, source: str) -> set[str]:
    return {name.split(".")[0] for name in imports(source, package=module.split(".")[0], top_only=True)} & HEAVY


def test_light_modules_import_nothing_heavy_at_the_top() -> None:
    found = {name: heavy_at_top(name, source) for name, source in sources().items() if name in LIGHT_MODULES}
    assert {name: heavy for name, heavy in found.items() if heavy} == {}


@pytest.mark.parametrize(
    ("source", "heavy"),
    [
        ("import torch", {"torch"}),
        ("import torch.nn.functional as F", {"torch"}),
        ("from scipy import stats", {"scipy"}),
        ("try:\n    import onnx\nexcept ImportError:\n    pass", {"onnx"}),
        ("class A:\n    import datasets", {"datasets"}),
        ("def f():\n    import torch", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_heavy_imports_are_seen_where_they_run(source: str, heavy: set[str]) -> None:
    assert heavy_at_top("toolkit.made_up", source) == heavy


def loaded_by(module: str) -> set[str]:
    """Top-level packages in sys.modules after importing `module` in a fresh process."""
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.split())


def test_the_server_loads_no_training_packages() -> None:
    loaded = loaded_by("serve.app")
    assert "fastapi" in loaded
    assert loaded & {"torch", "transformers", "datasets", "sklearn", "scipy", "pandas", "optimum"} == set()


def test_the_command_line_starts_light() -> None:
    loaded = loaded_by("toolkit.cli")
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_files_and_functions_stay_short() -> None:
    long = []
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > MAX_FILE_LINES:
            long.append(f"{module_name(path)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{module_name(path)}.{node.name}: {lines} lines")
    assert long == []


def test_no_module_is_a_drawer() -> None:
    assert [path for path in FILES if path.stem.strip("_") in {"utils", "util", "helpers", "manager", "common"}] == []
