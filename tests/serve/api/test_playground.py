"""The page at / in a real browser, asked as a person would, and what it may do."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from tokenizers import Tokenizer

from serve.api.playground import PAGE, POLICY
from tests.support.arithmetic_bundles import RANKS, SUM, save_arithmetic
from tests.support.browser import run_browser
from tests.support.server import serving
from toolkit.inference.predictor import open_predictor
from toolkit.tasks import Task

LONG = "good film " * 40
NASTY = 'it\'s <b>"good"</b> & $HOME `ls`\nbad'


@pytest.fixture(scope="module")
def address(tiny_onnx: Path) -> Iterator[str]:
    options = ("--workers", "1", "--log-format", "none", "--payload-limit", "2000")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (_, url):
        yield url


def visit(browser: str, profile: Path, url: str, *arguments: str) -> str:
    """The page's HTML, or with --screenshot its picture, once it has its answers."""
    done = run_browser(browser, profile, "--virtual-time-budget=4000", *arguments, url, timeout=120)
    assert "Content Security Policy" not in done.stderr
    return done.stdout


def shown(dom: str, name: str) -> str:
    """The text of the element with an id."""
    element = re.search(rf'<(\w+)[^>]* id="{name}"[^>]*>(.*?)</\1>', dom, re.DOTALL)
    assert element, name
    return html.unescape(re.sub(r"<[^>]+>", " ", element.group(2))).strip()


def test_the_page_shows_what_predict_answers(browser: str, address: str, tiny_onnx: Path, tmp_path: Path) -> None:
    text = f"{NASTY} {LONG}"
    url = f"{address}/#{urlencode({'text': text, 'pair': 'not asked for'})}"
    dom = visit(browser, tmp_path / "profile", url, "--dump-dom", "--enable-logging=stderr")
    scores = open_predictor(tiny_onnx, threads=1).predict([text])[0]
    best = ["negative", "positive"][int(scores.argmax())]
    assert shown(dom, "verdict") == best
    assert re.findall(r"(\w+)\s+(\d+\.\d) %", shown(dom, "labels")) == [
        (label, f"{100 * score:.1f}")
        for score, label in sorted(zip(scores, ("negative", "positive"), strict=True), reverse=True)
    ]
    widths = [float(width) for width in re.findall(r'class="fill" style="width: ([\d.]+)%', dom)]
    assert widths == pytest.approx(sorted(100 * scores, reverse=True), abs=0.01)
    assert shown(dom, "truncated") == "Too long: only the first 32 tokens were read."
    facts = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", dom)
    assert facts[0] == ("tokens", "32")
    assert [name for name, _ in facts[1:]] == [
        "tokenizing", "waiting", "in the model", "server in all", "with the network",
    ]  # fmt: skip
    assert all(re.fullmatch(r"\d+(\.\d\d)? ms", value) for _, value in facts[1:])
    assert re.search(r'<div id="second" hidden', dom)
    assert "not asked for" not in shown(dom, "curl")
    assert re.search(r'id="more"[^>]* hidden', dom)
    assert shown(dom, "model") == "onnx"
    assert "2 labels, fp32, up to 32 tokens" in shown(dom, "about")
    command = shown(dom, "curl")
    assert command.startswith(f"curl '{address}/predict' ")
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert f'"label":"{best}"' in done.stdout


def test_nothing_is_cut_without_a_word_and_errors_are_told(browser: str, address: str, tmp_path: Path) -> None:
    dom = visit(browser, tmp_path / "a", f"{address}/#text=good+film", "--dump-dom")
    assert re.search(r'id="truncated" hidden', dom)
    assert "<dt>tokens</dt><dd>4</dd>" in dom
    assert re.search(r'id="error" hidden', dom)
    dom = visit(browser, tmp_path / "b", f"{address}/#{urlencode({'text': 'a' * 3000})}", "--dump-dom")
    assert shown(dom, "error") == "the body is larger than 2000 bytes"
    dom = visit(browser, tmp_path / "c", f"{address}/", "--dump-dom")
    assert re.search(r'id="answer" hidden', dom)
    assert re.search(r'id="locked" hidden', dom)
    assert re.search(r'id="choice" hidden', dom)


def test_several_models_can_be_chosen(browser: str, tiny_onnx: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    total = save_arithmetic(tmp_path / "total", tokenizer, SUM)
    options = ("--port", "0", "--workers", "1", "--log-format", "none")
    with serving("-m", "serve", str(tiny_onnx), str(total), *options) as (_, address):
        chosen = visit(browser, tmp_path / "a", f"{address}/#text=a&model=total", "--dump-dom")
        first = visit(browser, tmp_path / "b", f"{address}/#text=good+film&model=none", "--dump-dom")
    assert re.search(r'<div id="choice">', chosen)
    assert re.findall(r"<option>(\w+)", chosen) == ["onnx", "total"]
    assert (shown(chosen, "model"), shown(chosen, "verdict")) == ("total", "10.000")
    assert "a score, fp32, up to 32 tokens" in shown(chosen, "about")
    assert f"curl '{address}/models/total/predict' " in shown(chosen, "curl")
    assert shown(first, "model") == "onnx"
    assert shown(first, "verdict") in ("negative", "positive")
    assert f"curl '{address}/predict' " in shown(first, "curl")


def test_many_labels_are_five_until_all_are_asked_for(browser: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """And the title is the task, with a second text where its inputs are pairs."""
    task = Task("intents", tuple(f"label-{i}" for i in range(30)), pair_column="text_pair")
    bundle = save_arithmetic(tmp_path / "many", tokenizer, RANKS, task=task)
    with serving("-m", "serve", str(bundle), "--port", "0", "--workers", "1", "--log-format", "none") as (_, address):
        few = visit(browser, tmp_path / "a", f"{address}/#text=a&pair=b", "--dump-dom")
        every = visit(browser, tmp_path / "b", f"{address}/#text=a&pair=b&all", "--dump-dom")
    names = re.findall(r'class="name">([\w-]+)<', few)
    assert names == [f"label-{i}" for i in range(29, 24, -1)]
    assert len(re.findall(r'class="name">', every)) == 30
    assert (shown(few, "more"), shown(every, "more")) == ("All 30", "Top 5")
    assert (shown(few, "model"), shown(few, "verdict")) == ("intents", "label-29")
    assert "many: 30 labels, fp32" in shown(few, "about")
    assert re.search(r'<div id="second">', few)
    assert '"text_pair":"b"' in shown(few, "curl")


def test_a_locked_server_asks_for_the_key(browser: str, tiny_onnx: Path, tmp_path: Path) -> None:
    command = ("-m", "serve", str(tiny_onnx), "--port", "0", "--workers", "1", "--log-format", "none")
    with serving(*command, TOOLKIT_API_KEYS="a-key") as (_, address):
        dom = visit(browser, tmp_path / "profile", f"{address}/#text=good+film", "--dump-dom")
    assert re.search(r'<div id="locked">', dom)
    assert shown(dom, "error") == "This server asks for an API key: enter it and try again."
    assert '-H "authorization: Bearer $KEY"' in shown(dom, "curl")


@pytest.mark.parametrize(("width", "height"), [(390, 1100), (1280, 800)])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_desk_light_and_dark(
    browser: str, address: str, tmp_path: Path, width: int, height: int, dark: bool
) -> None:
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    url = f"{address}/#{urlencode({'text': 'a warm, clever and moving film ' * 8, 'pair': 'dull'})}"
    visit(browser, tmp_path / "profile", url, *scheme, f"--window-size={width},{height}", f"--screenshot={shot}")
    pixels = np.round(imread(shot)[:, :, :3] * 255).astype(int)
    assert pixels.shape[1] == width

    def share(colour: str) -> float:
        expected = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return float((np.abs(pixels - expected).max(axis=2) <= 2).mean())

    paper, accent = ("#14171c", "#6cb0ff") if dark else ("#ffffff", "#0b63ce")
    assert share(paper) > 0.3
    assert share(accent) > 0.003  # the button and the best label's bar
    edge = np.abs(pixels[:, -4:] - pixels[0, 0]).max()
    assert edge <= 2  # nothing runs over the right edge


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_every_control_has_a_name_and_nothing_comes_from_elsewhere() -> None:
    outline = Outline()
    outline.feed(PAGE)
    ids = [attributes["id"] for _, attributes in outline.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {attributes["for"] for tag, attributes in outline.seen if tag == "label"}
    assert {attributes["id"] for tag, attributes in outline.seen if tag in ("textarea", "input", "select")} == labelled
    assert [attributes for tag, attributes in outline.seen if attributes.get("aria-live")] == [
        {"id": "output", "aria-label": "Answer", "aria-live": "polite"}
    ]
    assert {attributes["aria-labelledby"] for _, attributes in outline.seen if "aria-labelledby" in attributes} <= set(
        ids
    )
    assert not re.search(r"https?://|//\w", re.sub(r"^\s*//.*$", "", PAGE, flags=re.MULTILINE))
    assert "innerHTML" not in PAGE
    assert not [
        attributes
        for _, attributes in outline.seen
        if "style" in attributes or any(name.startswith("on") for name in attributes)
    ]
    defined = set(re.findall(r"(--[\w-]+):", PAGE))
    assert set(re.findall(r"var\((--[\w-]+)\)", PAGE)) == defined


def test_texts_can_be_read_light_and_dark() -> None:
    """WCAG 2: 4.5 to 1 for text, 3 to 1 for the edges of controls."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", PAGE, re.DOTALL)
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        for ground in (scheme["paper"], scheme["panel"]):
            for text in ("ink", "muted", "accent", "fail", "warn"):
                assert contrast(scheme[text], ground) >= 4.5, text
        assert contrast(scheme["on-accent"], scheme["accent"]) >= 4.5
        assert contrast(scheme["rest"], scheme["paper"]) >= 3


def test_the_policy_lets_only_the_pages_own_blocks_run(address: str) -> None:
    from urllib.request import urlopen

    with urlopen(address + "/") as response:
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.read().decode() == PAGE
    assert POLICY.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in POLICY
    assert "*" not in POLICY
