"""`toolkit push` and `toolkit pull`: bundles on the Hugging Face hub, whole or not at all, checked by their hashes.

The token comes from HF_TOKEN alone, the address from HF_ENDPOINT. A push is one commit; a pull resolves its revision to
a commit first and reads every file of that one.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.format import Bundle, check_output_path, is_bundle, open_bundle, resealed
from toolkit.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, SIGNATURE, read_manifest
from toolkit.config import PullConfig, PushConfig
from toolkit.console import echo
from toolkit.data.hub import UNREACHABLE, hub_answers, hub_endpoint
from toolkit.errors import ToolkitError, reason_of, resource_error, some
from toolkit.files import atomic_directory, sole_writer

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN = "HF_TOKEN"  # noqa: S105
OF_THE_HUB = {".gitattributes"}  # files that the hub itself puts into a repository
CACHE = ".cache"  # of huggingface_hub, in the folder that it downloads to


def push_bundle(config: PushConfig) -> str:
    """Put a bundle into a repository on the hub.

    The repository is made where it is not there, private unless --public. All files come in one commit.
    """
    config.check()
    bundle = open_bundle(config.bundle)
    api = _hub(needs_token=f"pushing to {config.repo}")
    parent, held = _prepare_repository(api, config)
    if config.license is not None:
        bundle = _state_license(bundle, config.license)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = [*bundle.manifest["files"], MANIFEST, *([SIGNATURE] if (bundle.path / SIGNATURE).is_file() else [])]
    total = sum((bundle.path / name).stat().st_size for name in names)
    echo(f"sending {len(names)} files, {total / 1e6:.1f} MB, to {config.repo}")
    added = [CommitOperationAdd(name, bundle.path / name) for name in names]
    removed = [CommitOperationDelete(name) for name in sorted(held - set(names))]
    with _hub_errors(config.repo):
        commit = api.create_commit(
            config.repo, [*added, *removed], commit_message=f"toolkit push: bundle {bundle.digest[:12]}",
            parent_commit=parent,
        ).oid  # fmt: skip
    echo(f"{config.repo} holds {bundle.path} as commit {commit}")
    echo(f"Next: toolkit pull {config.repo} --revision {commit} --out DIR")
    return str(commit)


def pull_bundle(config: PullConfig) -> Bundle:
    """Get a bundle from a repository on the hub.

    Every file is of the one commit that --revision names, and is checked by its hash before the folder appears.
    """
    config.check()
    out = Path(config.out)
    check_output_path(out)
    if is_bundle(out) and not config.overwrite:
        raise ToolkitError(f"--out {out} holds a bundle already", fix="--overwrite, or another --out")
    api = _hub()
    with _hub_errors(config.repo, config.revision):
        info = api.model_info(config.repo, revision=config.revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    if MANIFEST not in sizes:
        raise ToolkitError(f"{config.repo} holds no bundle: it has no {MANIFEST}", expected="what toolkit push sent")
    where = f"{config.repo} at {info.sha}"
    with sole_writer(out), atomic_directory(out) as staging:
        try:
            _download(api, config.repo, str(info.sha), sizes, staging)
            open_bundle(staging)
        except ToolkitError as error:
            raise ToolkitError(
                error.problem.replace(str(staging), where), expected=error.expected,
                fix="another --revision, or a new push of a whole bundle",
            ) from error  # fmt: skip
    bundle = open_bundle(out)
    echo(f"{out}: {bundle.kind}, {bundle.precision}, {bundle.digest}, from commit {info.sha} of {config.repo}")
    return bundle


def _hub(needs_token: str = "") -> HfApi:
    """Make the hub's client, with a time limit on finding out that there is no network."""
    token = os.environ.get(TOKEN, "").strip()
    if needs_token and not token:
        raise ToolkitError(
            f"{needs_token} needs a token of the hub, and {TOKEN} holds none",
            expected=f"an access token with the right to write, from {hub_endpoint()}/settings/tokens",
            fix=f"export {TOKEN}=hf_...",
        )
    if not hub_answers():
        raise ToolkitError(f"{UNREACHABLE} ({hub_endpoint()})", expected="a network, and no HF_HUB_OFFLINE=1")
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(endpoint=hub_endpoint(), token=token or False)


def _prepare_repository(api: HfApi, config: PushConfig) -> tuple[str | None, set[str]]:
    """Make the repository, or look at the one that is there; give its last commit and its files.

    Raises:
        ToolkitError: it holds files and --overwrite is not given, or it is public and --public is not given.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    with _hub_errors(config.repo):
        try:
            info = api.model_info(config.repo)
        except RepositoryNotFoundError:
            api.create_repo(config.repo, private=not config.public)
            return None, set()
    held = {sibling.rfilename for sibling in info.siblings or []} - OF_THE_HUB
    if held and not config.overwrite:
        raise ToolkitError(
            f"{config.repo} is there already, with {some(sorted(held), 3)}",
            fix="--overwrite for a commit that replaces them, or another repository",
        )
    if not info.private and not config.public:
        raise ToolkitError(f"{config.repo} is public: everyone would see this bundle", fix="--public if they may")
    return info.sha, held


def _state_license(bundle: Bundle, license_: str) -> Bundle:
    """Seal a bundle again with a license; a signature of what it was before goes."""
    if bundle.manifest.get("license") == license_:
        return bundle
    if (bundle.path / SIGNATURE).is_file():
        raise ToolkitError(
            f"{bundle.path} is signed, and --license {license_} would change it",
            fix=f"remove {bundle.path / SIGNATURE}, push with --license, sign, and push with --overwrite",
        )
    with resealed(bundle) as (_, manifest):
        manifest["license"] = license_
    echo(f"{bundle.path} is sealed again, with the license {license_}")
    return open_bundle(bundle.path)


def _download(api: HfApi, repo: str, commit: str, sizes: dict[str, int | None], folder: Path) -> None:
    """Download the manifest of a bundle, and the files that it lists; what else the repository holds is left there.

    Raises:
        ToolkitError: a file is missing or has another size: nothing more is downloaded.
    """
    from huggingface_hub import hf_hub_download

    def fetch(name: str) -> None:
        with _hub_errors(repo, commit):
            hf_hub_download(
                repo, name, revision=commit, local_dir=folder, endpoint=hub_endpoint(), token=api.token or False
            )

    _check_size(repo, MANIFEST, sizes[MANIFEST], MAX_MANIFEST_BYTES)
    fetch(MANIFEST)
    files = read_manifest(folder)["files"]
    if missing := sorted(files.keys() - sizes.keys()):
        raise ToolkitError(f"{folder / missing[0]} is missing: {MANIFEST} lists it")
    for name, record in files.items():
        if sizes[name] not in (None, record["size_bytes"]):
            raise ToolkitError(
                f"{folder / name} is damaged: {sizes[name]:,} bytes, {MANIFEST} says {record['size_bytes']:,}"
            )
    if SIGNATURE in sizes:
        _check_size(repo, SIGNATURE, sizes[SIGNATURE], MAX_SIGNATURE_BYTES)
    echo(f"getting {len(files)} files, {sum(record['size_bytes'] for record in files.values()) / 1e6:.1f} MB")
    for name in [*files, *([SIGNATURE] if SIGNATURE in sizes else [])]:
        fetch(name)
    shutil.rmtree(folder / CACHE, ignore_errors=True)


def _check_size(repo: str, name: str, size: int | None, most: int) -> None:
    if size is not None and size > most:
        raise ToolkitError(f"{name} of {repo} has {size:,} bytes", expected=f"at most {most:,}")


@contextmanager
def _hub_errors(repo: str, revision: str = "") -> Iterator[None]:
    """Say in words what the hub answered, or that it did not.

    Raises:
        ToolkitError: any error of the hub or of the network.
    """
    try:
        yield
    except ToolkitError:
        raise
    except Exception as error:  # requests, httpx, hf_xet and the hub's client each raise their own
        if resource_error(error) is not None:
            raise
        raise _refusal(error, repo, revision) from error


def _refusal(error: Exception, repo: str, revision: str) -> ToolkitError:
    """Make the error for people out of one of the hub's client."""
    from huggingface_hub import errors

    token = os.environ.get(TOKEN)
    if isinstance(error, errors.HFValidationError):
        return ToolkitError(f"{repo}: no name of a repository: {reason_of(error)}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ToolkitError(f"{repo} has no revision {revision}", expected="a branch, a tag or a commit of it")
    if isinstance(error, errors.GatedRepoError):
        return ToolkitError(f"{repo} asks its users for consent first", fix=f"{hub_endpoint()}/{repo}")
    if isinstance(error, errors.RepositoryNotFoundError):
        which = f"the token in {TOKEN} may not read it" if token else f"it is private and {TOKEN} holds no token"
        return ToolkitError(f"{repo} is not on {hub_endpoint()}, or {which}")
    if not isinstance(error, errors.HfHubHTTPError):
        return ToolkitError(
            f"the connection to {hub_endpoint()} broke: {reason_of(error)}", fix="the same command again"
        )
    if error.response is not None and error.response.status_code in (401, 403):
        return ToolkitError(
            f"the hub refuses the token in {TOKEN} for {repo}" if token else f"{repo} needs a token in {TOKEN}",
            expected="a token with the right to write there, or to read what is private",
        )
    return ToolkitError(f"the hub answered for {repo}: {reason_of(error)}", fix="the same command again")
