"""Names of models, given or taken of their directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.config.model_names import NamedModel
from toolkit.errors import ToolkitError


@pytest.mark.parametrize(
    ("given", "name", "place", "remote"),
    [
        ("runs/int8/", "int8", "runs/int8/", False), ("big=x/y=z", "big", "x/y=z", False),
        ("a/of films", "of-films", "a/of films", False),
        ("http://tei:80/predict/", "fallback", "http://tei:80/predict", True),
        ("big=https://tei/predict", "big", "https://tei/predict", True),
    ],
)  # fmt: skip
def test_a_name_is_given_or_the_directory_s(given: str, name: str, place: str, remote: bool) -> None:
    assert NamedModel.parse(given) == NamedModel(name, place, remote)


def test_a_directory_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    given = str(tmp_path / "a=b")
    assert NamedModel.parse(given) == NamedModel("a-b", given, remote=False)


def test_a_name_that_does_not_fit_into_a_path_is_refused() -> None:
    with pytest.raises(ToolkitError, match="'a/b' is no name for a model"):
        NamedModel.parse("a/b=dir")


@pytest.mark.parametrize("given", ["https://me:hidden@tei/predict", "big=http://hidden@tei:80/predict"])
def test_a_password_in_a_url_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(ToolkitError, match="a URL holds a name or password") as caught:
        NamedModel.parse(given)
    assert "hidden" not in str(caught.value) + caught.value.fix
    for place in ("http://tei/a@b", "http://tei?to=a@b"):
        assert NamedModel.parse(place).place == place


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ToolkitError, match=r"http://\[::1 is no URL"):
        NamedModel.parse("http://[::1")
