"""Which room may import which, what may load when, and how long a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("toolkit", "export", "serve")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# A room imports only rooms of lower rows, and none of its own row. A new room needs a row here.
ROWS = {
    11: "__main__",
    10: "cli",
    9: "api",
    8: "compression",
    7: "distillation augmentation scoring benchmarking export serve",
    6: "training",
    5: "inference",
    4: "models",
    3: "config data bundle",
    2: "tasks files",
    1: "errors console measurement reports",
}
ROW_OF = {room: row for row, rooms in ROWS.items() for room in rooms.split()}
# Inside `serve`: a part imports only parts of lower rows.
SERVE_ROWS = {
    9: "__main__ ray_app",
    8: "supervisor",
    7: "app",
    6: "api lifecycle",
    5: "models",
    4: "engine http shared_metrics",
    3: "metrics",
    2: "exceptions log_format memory",
}
SERVE_ROW_OF = {part: row for row, parts in SERVE_ROWS.items() for part in parts.split()}
INIT_MAY_USE = {"toolkit": {"toolkit.api"}}  # at the first use of a name: a test sees that importing it stays light
# and rows 1 to 3
SERVE_MAY_USE = {
    f"toolkit.inference.{name}"
    for name in ("cascade", "drift", "endpoint_answers", "hugging_face", "predictor", "runtimes")
}

HEAVY = {
    "torch", "transformers", "onnx", "onnxruntime", "datasets", "sklearn", "scipy", "matplotlib", "optimum",
    "accelerate", "pyarrow", "pandas", "ctranslate2", "openvino", "nncf",
}  # fmt: skip
# The rest may import torch and the like at the top; the command that needs them imports the module.
LIGHT_ROOMS = {room for row in (1, 2, 3, 9, 10) for room in ROWS[row].split()}
LIGHT_MODULES = {
    "toolkit", "toolkit.inference.metrics", "toolkit.inference.runtimes", "toolkit.inference.predictor",
    "toolkit.inference.endpoint_answers", "toolkit.inference.cascade", "toolkit.inference.drift",
    "toolkit.inference.hugging_face", "toolkit.benchmarking.bench",
}  # fmt: skip

MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 50


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(source: str, *, top_only: bool = False) -> set[str]:
    """Dotted names a module imports; `from a import b` gives a.b. `top_only`: those that run at import."""
    names: set[str] = set()
    for node in top_level(ast.parse(source)) if top_only else ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def top_level(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs at import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from top_level(child)


def room_of(module: str) -> str:
    """The room of a module: `toolkit.data.readers` is in data; `export` and `serve` are rooms themselves."""
    package, *rest = module.split(".")
    return rest[0] if package == "toolkit" and rest else package


def part_of(module: str) -> str:
    """The part of `serve` that a module is in."""
    return module.split(".")[1]


def resolve(name: str, known: set[str]) -> str | None:
    """The module of ours behind an imported name such as toolkit.errors.ToolkitError, or None."""
    while name:
        if name in known and "." in name:
            return name
        name = name.rpartition(".")[0]
    return None


def graph(modules: dict[str, str]) -> dict[str, set[str]]:
    """The modules of ours that each module imports, for {module name: source}."""
    known = set(modules)
    targets = {module: {resolve(name, known) for name in imports(source)} for module, source in modules.items()}
    return {
        module: {name for name in names if name is not None and name != module} for module, names in targets.items()
    }


def problem_of(module: str, target: str) -> str | None:
    """Why `module` may not import `target`, or None where it may."""
    here, there = room_of(module), room_of(target)
    if here == there:
        if here != "serve" or part_of(module) == part_of(target):
            return None
        allowed = SERVE_ROW_OF[part_of(target)] < SERVE_ROW_OF[part_of(module)]
    elif here == "serve":
        allowed = ROW_OF[there] <= 3 or target in SERVE_MAY_USE
    else:
        allowed = ROW_OF[there] < ROW_OF[here]
    return None if allowed else f"{module} may not import {target}"


def layer_problems(modules: dict[str, str]) -> list[str]:
    """What breaks the rows in {module name: source}."""
    problems = []
    for module, targets in graph(modules).items():
        if "." not in module:  # a package's __init__ stays free of our own imports
            allowed = INIT_MAY_USE.get(module, set())
            problems += [f"{module}/__init__.py imports {target}" for target in sorted(targets - allowed)]
            continue
        table = SERVE_ROW_OF if module.startswith("serve.") else ROW_OF
        place = part_of(module) if module.startswith("serve.") else room_of(module)
        if place not in table:
            problems.append(f"{module} has no row: give {place} one in tests/project/test_layers.py")
            continue
        problems += filter(None, (problem_of(module, target) for target in sorted(targets)))
    return problems


def circle(modules: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle; empty where there is none."""
    try:
        list(TopologicalSorter(graph(modules)).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def sources() -> dict[str, str]:
    return {module_name(path): path.read_text(encoding="utf-8") for path in FILES}


def test_every_module_keeps_to_its_row() -> None:
    assert layer_problems(sources()) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(sources()) == []


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("toolkit.errors", "import toolkit.tasks", "toolkit.tasks"),
        ("toolkit.tasks", "def f():\n    from toolkit.data.datasets import Split", "toolkit.data.datasets"),
        ("toolkit.data.readers", "from toolkit.bundle import format", "toolkit.bundle.format"),
        ("toolkit.benchmarking.bench", "from export.pipeline import run", "export.pipeline"),
        ("export.pipeline", "from toolkit.cli.main import app", "toolkit.cli.main"),
        ("serve.app", "from toolkit.training.trainer import fit", "toolkit.training.trainer"),
        ("serve.engine.engine", "from serve.api.routes import r", "serve.api.routes"),
        ("serve.engine.engine", "from serve.http.connection import c", "serve.http.connection"),
    ],
)
def test_a_forbidden_import_is_caught(module: str, source: str, target: str) -> None:
    assert layer_problems({target: "", module: source}) == [f"{module} may not import {target}"]


@pytest.mark.parametrize("module", ["toolkit.helpers", "serve.helpers"])
def test_a_module_without_a_row_is_caught(module: str) -> None:
    assert layer_problems({module: ""}) == [f"{module} has no row: give helpers one in tests/project/test_layers.py"]


def test_an_init_that_imports_is_caught() -> None:
    modules = {"toolkit.errors": "", "toolkit": "from toolkit.errors import ToolkitError"}
    assert layer_problems(modules) == ["toolkit/__init__.py imports toolkit.errors"]
    modules = {"toolkit.api": "", "toolkit": "from toolkit import api", "serve": "import toolkit.api"}
    assert layer_problems(modules) == ["serve/__init__.py imports toolkit.api"]


def test_allowed_imports_pass() -> None:
    modules = {
        "toolkit.errors": "import json", "toolkit.tasks": "from toolkit.errors import ToolkitError",
        "toolkit.data.datasets": "from toolkit.tasks import Task\nfrom toolkit.data import readers",
        "toolkit.data.readers": "", "toolkit.inference.predictor": "from toolkit.data.datasets import Split",
        "export.pipeline": "from toolkit.inference.predictor import Predictor",
        "serve.engine.engine": "", "serve.app": "from serve.engine import engine\nimport toolkit.inference.predictor",
        "toolkit.cli.main": "import export.pipeline\nimport serve.app",
    }  # fmt: skip
    assert layer_problems(modules) == []
    assert circle(modules) == []


def test_a_circle_is_caught() -> None:
    modules = {
        "export.a": "import export.b",
        "export.b": "def f():\n    import export.c",
        "export.c": "import export.a",
    }
    assert set(circle(modules)) == set(modules)


def heavy_at_top(source: str) -> set[str]:
    return {name.split(".")[0] for name in imports(source, top_only=True)} & HEAVY


def is_light(module: str) -> bool:
    return module in LIGHT_MODULES or (module.startswith("toolkit.") and room_of(module) in LIGHT_ROOMS)


def test_light_modules_import_nothing_heavy_at_the_top() -> None:
    heavy = {name: heavy_at_top(source) for name, source in sources().items() if is_light(name)}
    assert {name: packages for name, packages in heavy.items() if packages} == {}


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
    assert heavy_at_top(source) == heavy


def loaded_by(module: str, then: str = "pass") -> set[str]:
    """Top-level packages in sys.modules after importing `module` in a fresh process, and perhaps a statement."""
    program = f"import sys, {module}; {then}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.split())


def test_the_server_loads_no_training_packages_for_an_exported_fallback_too(tiny_onnx: Path) -> None:
    loaded = loaded_by("serve.app", f"serve.models.loading.load_second({str(tiny_onnx)!r})")
    assert "fastapi" in loaded
    assert loaded & {"torch", "transformers", "datasets", "sklearn", "scipy", "pandas", "optimum"} == set()


def test_the_command_line_starts_light() -> None:
    loaded = loaded_by("toolkit.cli.main")
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_importing_the_package_loads_nothing_and_the_python_api_nothing_heavy() -> None:
    assert loaded_by("toolkit") & (HEAVY | {"numpy", "typer", "rich", "export", "serve"}) == set()
    loaded = loaded_by("toolkit.api")
    assert "numpy" in loaded
    assert loaded & (HEAVY | {"fastapi", "serve", "export"}) == set()


def test_the_package_has_few_rooms() -> None:
    names = {path.name for path in (ROOT / "toolkit").iterdir()} - {"__pycache__", "__init__.py", "py.typed"}
    assert len(names) <= 20


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
