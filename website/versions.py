"""The table of versions: what pyproject.toml declares, and what the tests run with (constraints.txt)."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
MARKER = "<!-- versions -->"
EXTRAS = ("distill", "export", "optimum", "peers", "serve", "otel", "ray")


def table() -> str:
    """Write a row for each package that the toolkit declares, by the extra that brings it."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    rows = ["## Versions", "", "| package | for | declared | tested |", "|---|---|---|---|"]
    seen = {canonicalize_name(project["name"])}
    for extra, requirements in [("", project["dependencies"]), *((extra, extras[extra]) for extra in EXTRAS)]:
        for requirement in map(Requirement, requirements):
            name = canonicalize_name(requirement.name)
            if name not in seen:
                seen.add(name)
                rows.append(
                    f"| {requirement.name} | {extra or 'every install'} | {requirement.specifier} | {pins[name]} |"
                )
    return "\n".join(rows)
