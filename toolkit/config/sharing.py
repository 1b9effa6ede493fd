"""Options of `toolkit push`, `pull`, `sign` and `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, option, overwrite_option, required

BUNDLE = "bundle made by finetune, distill or export"


def _repository_problems(repo: str) -> Iterator[str]:
    if repo.count("/") != 1 or not all(repo.split("/")):
        yield f"{repo}: expected OWNER/NAME, a repository on the Hugging Face hub"


@dataclass(frozen=True)
class PushConfig(Config):
    """Options of `toolkit push`."""

    bundle: str = argument(BUNDLE)
    repo: str = argument("repository on the hub that gets it, made where it is not there", "OWNER/NAME")
    public: bool = option(False, "let everyone see it; without this option a repository is private")
    overwrite: bool = option(False, "add a commit that replaces what the repository holds already")
    license: str | None = option(
        None, "license to state on the card, as the hub names it (apache-2.0); the bundle is sealed again", "", "ID"
    )

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from _repository_problems(self.repo)
        if self.license is not None and not self.license.strip():
            yield "--license: expected an identifier, such as apache-2.0"


@dataclass(frozen=True)
class PullConfig(Config):
    """Options of `toolkit pull`."""

    repo: str = argument("repository on the hub that holds a bundle", "OWNER/NAME")
    out: str = required("folder to write the bundle to", "Output", "DIR")
    revision: str = option("main", "branch, tag or commit; the commit that it names is said", "", "REVISION")
    overwrite: bool = overwrite_option()

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from _repository_problems(self.repo)


@dataclass(frozen=True)
class SignConfig(Config):
    """Options of `toolkit sign`."""

    bundle: str = argument(BUNDLE)
    key: str = required("private key in PEM, of an elliptic curve (P-256, P-384 or P-521)", "", "FILE")

    def problems(self) -> Iterator[str]:
        """List nothing: what the files hold is checked as they are read."""
        yield from ()


@dataclass(frozen=True)
class VerifyConfig(Config):
    """Options of `toolkit verify`."""

    bundle: str = argument("bundle that `toolkit sign` signed")
    key: str = required("public key in PEM, the counterpart of the key that signed", "", "FILE")

    def problems(self) -> Iterator[str]:
        """List nothing: what the files hold is checked as they are read."""
        yield from ()
