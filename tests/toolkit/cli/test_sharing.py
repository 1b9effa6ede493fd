"""Bundles go to the hub and come back whole, or not at all: with a hub that speaks its endpoints on this machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import refused, toolkit
from tests.support.hub import TOKEN, Hub, running_hub
from toolkit.bundle.format import open_bundle
from toolkit.bundle.manifest import CARD, MANIFEST, SIGNATURE
from toolkit.cli.sharing import pull_bundle, push_bundle
from toolkit.config import PullConfig, PushConfig
from toolkit.data.hub import OFFLINE_VARIABLES, hub_answers
from toolkit.errors import ToolkitError

REPO = "me/reviews-int8"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub to which this process is online, with a token that may write."""
    import huggingface_hub.utils
    from huggingface_hub import constants

    new_sessions = getattr(huggingface_hub.utils, "reset_sessions", None) or huggingface_hub.utils.close_session
    with running_hub() as hub:
        for name in OFFLINE_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # both are read as the library is imported
        template = "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(template, hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        hub_answers.cache_clear()
        new_sessions()
        yield hub
    hub_answers.cache_clear()
    new_sessions()


@pytest.fixture
def bundle(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "bundle")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_pushed_is_pulled(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    (bundle / SIGNATURE).write_bytes(b"{}")  # travels as it is
    commit = push_bundle(PushConfig(str(bundle), REPO))
    assert hub.repositories[REPO].private
    assert set(hub.repositories[REPO].at(commit)[1]) == {*files(bundle), ".gitattributes"}  # type: ignore[index]
    assert len(hub.repositories[REPO].commits) == 2, "the repository's own and one of all files"
    assert set(hub.large.values()) == {(bundle / "model.onnx").read_bytes()}
    pulled = pull_bundle(PullConfig(REPO, str(tmp_path / "pulled")))
    assert files(tmp_path / "pulled") == files(bundle), "and no file of the hub's client"
    assert pulled.digest == open_bundle(bundle).digest
    assert {token for _, path, token in hub.requests if not re.match("/$|/large/", path)} == {TOKEN}


def test_a_revision_is_one_commit_whatever_comes_after(
    hub: Hub, bundle: Path, tiny_student: Path, tmp_path: Path
) -> None:
    first = push_bundle(PushConfig(str(bundle), REPO))
    with pytest.raises(ToolkitError, match="is there already, with") as caught:
        push_bundle(PushConfig(str(tiny_student), REPO))
    assert "--overwrite" in caught.value.fix
    assert len(hub.repositories[REPO].commits) == 2, "nothing was sent"
    push_bundle(PushConfig(str(tiny_student), REPO, overwrite=True))
    assert pull_bundle(PullConfig(REPO, str(tmp_path / "new"))).digest == open_bundle(tiny_student).digest
    old = pull_bundle(PullConfig(REPO, str(tmp_path / "old"), revision=first))
    assert old.digest == open_bundle(bundle).digest
    resolved = {path.split("/")[4] for _, path, _ in hub.requests if "/resolve/" in path}
    assert resolved == {commit for commit, _ in hub.repositories[REPO].commits[1:]}, "commits, never a branch"
    with pytest.raises(ToolkitError, match=f"{REPO} has no revision v9"):
        pull_bundle(PullConfig(REPO, str(tmp_path / "none"), revision="v9"))


@pytest.mark.parametrize("name", ["model.onnx", CARD, MANIFEST, "tokenizer.json"])
def test_a_tampered_file_is_refused_and_nothing_is_left(name: str, hub: Hub, bundle: Path, tmp_path: Path) -> None:
    push_bundle(PushConfig(str(bundle), REPO))
    held = hub.repositories[REPO].commits[-1][1]
    held[name] = held[name][:-1] + bytes([held[name][-1] ^ 1])
    with pytest.raises(ToolkitError, match=f"{REPO} at [0-9a-f]{{40}}/{name} is damaged"):
        pull_bundle(PullConfig(REPO, str(tmp_path / "pulled")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    held.pop(name)
    with pytest.raises(ToolkitError, match="no bundle.json" if name == MANIFEST else f"{name} is missing"):
        pull_bundle(PullConfig(REPO, str(tmp_path / "pulled")))
    assert not any("/resolve/" in path and path.endswith("config.json") for _, path, _ in hub.requests[-2:])


def test_a_file_of_another_size_is_not_even_downloaded(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    push_bundle(PushConfig(str(bundle), REPO))
    hub.repositories[REPO].commits[-1][1]["model.onnx"] += b"more"
    with pytest.raises(ToolkitError, match=r"model\.onnx is damaged: [\d,]+ bytes, bundle\.json says"):
        pull_bundle(PullConfig(REPO, str(tmp_path / "pulled")))
    assert not any(path.endswith("/model.onnx") for _, path, _ in hub.requests if "/resolve/" in path)


def test_what_is_there_stays_until_the_new_one_is_whole(
    hub: Hub, bundle: Path, tiny_student: Path, tmp_path: Path
) -> None:
    push_bundle(PushConfig(str(bundle), REPO))
    out = shutil.copytree(tiny_student, tmp_path / "out")
    with pytest.raises(ToolkitError, match="holds a bundle already"):
        pull_bundle(PullConfig(REPO, str(out)))
    hub.repositories[REPO].commits[-1][1]["model.onnx"] = b"x" * (bundle / "model.onnx").stat().st_size
    with pytest.raises(ToolkitError, match="its SHA-256 is not"):
        pull_bundle(PullConfig(REPO, str(out), overwrite=True))
    assert files(out) == files(tiny_student)


def test_a_public_repository_takes_a_bundle_by_public_alone(hub: Hub, bundle: Path) -> None:
    push_bundle(PushConfig(str(bundle), REPO, public=True))
    assert not hub.repositories[REPO].private
    with pytest.raises(ToolkitError, match="is public: everyone would see"):
        push_bundle(PushConfig(str(bundle), REPO, overwrite=True))
    push_bundle(PushConfig(str(bundle), REPO, overwrite=True, public=True))


def test_a_license_is_stated_on_the_card_and_sealed(hub: Hub, bundle: Path) -> None:
    before = open_bundle(bundle)
    push_bundle(PushConfig(str(bundle), REPO, license="apache-2.0"))
    after = open_bundle(bundle)
    assert after.manifest["license"] == "apache-2.0"
    assert "license: apache-2.0" in (bundle / CARD).read_text()
    assert hub.repositories[REPO].commits[-1][1][CARD] == (bundle / CARD).read_bytes()
    assert {name for name, record in after.manifest["files"].items() if before.manifest["files"][name] != record} == {
        CARD
    }
    (bundle / SIGNATURE).write_bytes(b"{}")
    with pytest.raises(ToolkitError, match="is signed, and --license mit would change it"):
        push_bundle(PushConfig(str(bundle), REPO, license="mit", overwrite=True))


def test_tokens(hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_bundle(PushConfig(str(bundle), REPO))
    monkeypatch.setenv("HF_TOKEN", "hf_stolen")
    with pytest.raises(ToolkitError, match="the hub refuses the token in HF_TOKEN"):
        push_bundle(PushConfig(str(bundle), REPO, overwrite=True))
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ToolkitError, match=f"{REPO} is not on .*, or it is private and HF_TOKEN holds no token"):
        pull_bundle(PullConfig(REPO, str(tmp_path / "pulled")))
    asked = len(hub.requests)
    with pytest.raises(ToolkitError, match="needs a token of the hub, and HF_TOKEN holds none"):
        push_bundle(PushConfig(str(bundle), REPO))
    assert len(hub.requests) == asked


def test_a_connection_that_breaks_leaves_nothing(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    push_bundle(PushConfig(str(bundle), REPO))
    hub.broken = "/commit/"
    with pytest.raises(ToolkitError, match=r"the connection to .* broke"):
        push_bundle(PushConfig(str(bundle), REPO, overwrite=True))
    assert len(hub.repositories[REPO].commits) == 2
    hub.broken = f"/{REPO}/revision/"
    with pytest.raises(ToolkitError, match=r"the connection to .* broke"):
        pull_bundle(PullConfig(REPO, str(tmp_path / "pulled")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_the_commands_by_themselves(hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = toolkit("push", bundle, REPO)
    assert done.returncode == 0, done.stderr
    assert f"toolkit pull {REPO} --revision {hub.repositories[REPO].commits[-1][0]}" in done.stdout
    done = toolkit("pull", REPO, "--out", tmp_path / "pulled")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "pulled") == files(bundle)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub_answers.cache_clear()
    assert refused(toolkit("pull", REPO, "--out", tmp_path / "other")).startswith("error: the hub cannot be reached")
