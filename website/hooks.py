"""What mkdocs calls while it builds the site (mkdocs.yml): pages from the program and from files beside docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import bundle_format, commands, llms, python_api, versions

ROOT = Path(__file__).parent.parent
COMMANDS = "reference/commands"
COPIED = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page for each command into the menu."""
    reference = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    menu = next(entry for entry in reference if "Commands" in entry)
    pages = [{f"toolkit {name}": f"{COMMANDS}/{name}.md"} for name in commands.commands()]
    menu["Commands"] = [f"{COMMANDS}/index.md", *pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and files."""
    for path, content in generated():
        files.append(File.generated(config, path, content=content))
    return files


def generated() -> Iterator[tuple[str, str]]:
    """Give every generated file: its path in the site's sources and its text."""
    yield f"{COMMANDS}/index.md", commands.index_page()
    for name, command in commands.commands().items():
        yield f"{COMMANDS}/{name}.md", commands.command_page(name, command)
    yield "reference/python.md", python_api.python_page()
    yield "reference/bundle.md", bundle_format.format_page()
    yield from bundle_format.schema_files().items()
    for source, page in COPIED.items():
        yield page, copied(source)


def copied(source: str) -> str:
    """Return a Markdown file of the repository with its links as they are in the site."""
    text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\]\((\w+\.md)", lambda link: f"]({COPIED.get(link[1], link[1])}", text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table of versions into its page."""
    return markdown.replace(versions.MARKER, versions.table())


def on_env(env: Any, config: MkDocsConfig, files: Files) -> Any:
    """Write llms.txt and llms-full.txt once all pages are read, in the order of the menu."""
    pages = [
        llms.PlainPage(_section(page), str(page.title), page.url, page.markdown or "")
        for page in (file.page for file in files.documentation_pages())
        if isinstance(page, Page)
    ]
    order = {path: i for i, path in enumerate(_menu(config.nav))}
    pages.sort(key=lambda page: order.get(page.url.removesuffix(".html") + ".md", len(order)))
    site = Path(config.site_dir)
    site.mkdir(parents=True, exist_ok=True)
    (site / "llms.txt").write_text(llms.index(config.site_name, config.site_description or "", pages), encoding="utf-8")
    (site / "llms-full.txt").write_text(llms.full(pages), encoding="utf-8")
    return env


def _section(page: Page) -> str:
    """Give the top heading of the menu that a page stands under."""
    return page.ancestors[-1].title if page.ancestors else "Start"


def _menu(nav: Any) -> Iterator[str]:
    """Give the paths of a menu's pages in order."""
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _menu(entry)
