"""The site as plain text for language models (llmstxt.org): llms.txt lists the pages, llms-full.txt holds them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PlainPage:
    """A page of the site.

    Attributes:
        section: heading of the menu that it stands under.
        title: its title.
        url: its address, relative to the site.
        markdown: its text.
    """

    section: str
    title: str
    url: str
    markdown: str

    @property
    def summary(self) -> str:
        """Its first sentence that is no heading, table, list, picture or code."""
        text = re.sub(r"```.*?```|<!--.*?-->", "", self.markdown, flags=re.DOTALL)
        paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
        first = next((part for part in paragraphs if re.match(r"[\w`]", part)), "")
        return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.split(r"(?<=\.) ", first)[0]).rstrip(":")


def index(name: str, description: str, pages: Sequence[PlainPage]) -> str:
    """Write llms.txt: the name, what it is, and the pages by section, each with its summary."""
    lines = [f"# {name}", "", f"> {description}"]
    for section in dict.fromkeys(page.section for page in pages):
        lines += ["", f"## {section}", ""]
        for page in (page for page in pages if page.section == section):
            lines.append(f"- [{page.title}]({page.url})" + (f": {page.summary}" if page.summary else ""))
    return "\n".join([*lines, ""])


def full(pages: Sequence[PlainPage]) -> str:
    """Write llms-full.txt: all pages, one after another."""
    return "\n\n".join(page.markdown.strip() for page in pages) + "\n"
