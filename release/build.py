"""Build the source archive and the wheel from the tracked files.

python -m release.build --out dist [--source https://github.com/OWNER/REPOSITORY]

A package index shows README.md without the files beside it. With --source its links lead to the repository, at the tag
of this version, and the package names the repository; without it they become plain text, so that none is dead.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import toolkit

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def absolute(page: str, source: str | None, tag: str) -> str:
    """Return a page whose links into the repository lead to `source` at `tag`, or without one are plain text."""

    def replaced(link: re.Match[str]) -> str:
        picture, text, path = link.groups()
        if source is None:
            return "" if picture else text
        return f"{picture}[{text}]({source}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return LINK.sub(replaced, page)


def project_urls(source: str, tag: str) -> str:
    """Return the table of pyproject.toml that names the repository."""
    lines = (f'Source = "{source}"', f'Changelog = "{source}/blob/{tag}/CHANGELOG.md"', f'Issues = "{source}/issues"')
    return "\n".join(["", "[project.urls]", *lines, ""])


def prepare(tree: Path, source: str | None) -> None:
    """Copy the tracked files, with README.md and pyproject.toml as a package index needs them."""
    tag = f"v{toolkit.__version__}"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    readme = tree / "README.md"
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), source, tag), encoding="utf-8")
    if source:
        with (tree / "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write(project_urls(source, tag))


def main(arguments: list[str] | None = None) -> None:
    """Build both into --out, by the setuptools that is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory to write both files to")
    parser.add_argument("--source", help="address of the repository")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as tree:
        prepare(Path(tree), options.source.rstrip("/") if options.source else None)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(options.out.resolve()), tree]
        subprocess.run(command, check=True, cwd=tree)


if __name__ == "__main__":
    main()
