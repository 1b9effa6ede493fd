"""Binary tensors: bytes written out by hand, and what is no tensor refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from serve.api.binary_tensors import LENGTH_HEADER, encode_tensor
from serve.app import create_app
from serve.engine.limits import MAX_INPUTS, Limits
from serve.http.api_keys import ApiKeySet

INFER = "/v2/models/onnx/infer"


@pytest.fixture(scope="module")
def client(tiny_onnx: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tiny_onnx, limits=Limits(workers=1)), raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, behind: bytes, *sizes: Any, count: int = 1, length: str | None = None, **rest: Any) -> Any:
    """Ask with one tensor for each size, all behind the JSON."""
    inputs = [
        {"name": name, "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": size}} | rest
        for name, size in zip(("text", "text_pair"), sizes, strict=False)
    ]
    header = json.dumps({"inputs": inputs, "outputs": [{"name": "score"}]}).encode()
    headers = {LENGTH_HEADER: str(len(header)) if length is None else length}
    return client.post(INFER, content=header + behind, headers=headers)


def test_strings_and_numbers_stand_behind_each_other_in_little_endian() -> None:
    assert encode_tensor(["ab", "", "\u00e9"]) == b"\x02\0\0\0ab" + b"\0\0\0\0" + b"\x02\0\0\0\xc3\xa9"
    assert encode_tensor([1.0, -2.5]) == b"\0\0\x80\x3f" + b"\0\0\x20\xc0"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), min_size=1, max_size=5))
def test_binary_texts_get_the_answers_of_json(client: TestClient, texts: list[str]) -> None:
    data = encode_tensor(texts)
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    expected = client.post(INFER, json={"inputs": [tensor], "outputs": [{"name": "score"}]})
    answer = ask(client, data, len(data), count=len(texts))
    assert (answer.status_code, answer.json()) == (200, expected.json())


def test_two_tensors_are_read_in_their_order(client: TestClient) -> None:
    first, second = encode_tensor(["good film"]), encode_tensor(["awful"])
    predicted = client.post("/predict", json={"inputs": ["good film", "awful"]}).json()
    answer = ask(client, first + second, len(first), len(second)).json()
    assert answer["outputs"][0]["data"] == pytest.approx([entry["score"] for entry in predicted])


def test_a_binary_answer_is_json_and_bytes(client: TestClient) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good film"]}
    body = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    answer = client.post(INFER, json=body)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH_HEADER])
    label, score = json.loads(answer.content[:length])["outputs"]
    tensors = answer.content[length:]
    assert (label["shape"], score["shape"], "data" in label) == ([1, 2], [1, 2], False)
    predicted = client.post("/predict", json={"inputs": "good film"}).json()
    assert tensors[: label["parameters"]["binary_data_size"]] == encode_tensor([entry["label"] for entry in predicted])
    rest = tensors[label["parameters"]["binary_data_size"] :]
    assert struct.unpack("<2f", rest) == pytest.approx([entry["score"] for entry in predicted])
    assert score["parameters"]["binary_data_size"] == len(rest) == 8
    assert answer.headers["x-compute-tokens"] == "4"
    chosen = client.post(INFER, json=body | {"outputs": [{"name": "score", "parameters": {"binary_data": False}}]})
    assert chosen.headers["content-type"] == "application/json"


GOOD = encode_tensor(["good"])
WRONG: list[tuple[bytes, list[Any], dict[str, Any], str]] = [
    (GOOD, [len(GOOD) + 1], {}, "is not a number of the 8 bytes that are left"),
    *((GOOD, [size], {}, "is not a number of") for size in (-1, 8.0, "8", True, 10**30)),
    (GOOD + b"x", [len(GOOD)], {}, "1 bytes follow the tensors"),
    (GOOD, [len(GOOD)], {"data": ["a"]}, "`data` and `binary_data_size`"),
    (GOOD[:-1], [len(GOOD) - 1], {}, "ends inside a string"), (GOOD[:3], [3], {}, "ends inside a string"),
    (b"\xff\xff\xff\xff", [4], {}, "ends inside a string"),
    (encode_tensor(["ab"]).replace(b"ab", b"\xff\xfe"), [6], {}, "not UTF-8"),
    (encode_tensor(["ab"]).replace(b"ab", b"\xed\xa0"), [6], {}, "not UTF-8"),
    (GOOD, [len(GOOD)], {"count": 2}, "shape [2] and 1 strings"), (b"", [0], {"count": 0}, "cannot be empty"),
    (encode_tensor(["a"] * (MAX_INPUTS + 9)), [5 * (MAX_INPUTS + 9)], {}, f"at most {MAX_INPUTS} items"),
    (GOOD, [len(GOOD)], {"length": "0"}, "Inference-Header-Content-Length is 0"),
    (GOOD, [len(GOOD)], {"length": "999999"}, "Inference-Header-Content-Length is 999999"),
    (GOOD, [len(GOOD)], {"length": "9" * 5000}, "Inference-Header-Content-Length is 9"),
    (GOOD, [len(GOOD)], {"length": "0" * 19 + "1" + "9" * 5000}, "Inference-Header-Content-Length is 0"),
    (GOOD, [len(GOOD)], {"length": "-1"}, "Inference-Header-Content-Length is -1"),
    (GOOD, [len(GOOD)], {"length": "\u0662"}, "Inference-Header-Content-Length is"),
    (GOOD, [len(GOOD)], {"length": "5"}, "the body is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "sizes", "rest", "message"), WRONG)
def test_what_is_no_tensor_is_refused(
    client: TestClient, data: bytes, sizes: list[Any], rest: dict[str, Any], message: str
) -> None:
    if isinstance(rest.get("length"), str) and not rest["length"].isascii():
        rest = rest | {"length": rest["length"].encode()}
    answer = ask(client, data, *sizes, **rest)
    assert answer.status_code in (400, 422), answer.text
    assert message in answer.json()["error"]


def test_no_more_tensors_are_read_than_a_request_may_have(client: TestClient) -> None:
    """Sixty of as many strings as one may have would hold the event loop for half a second."""
    header = json.dumps({"inputs": [{"parameters": {"binary_data_size": len(GOOD)}}] * 3}).encode()
    answer = client.post(INFER, content=header + GOOD * 3, headers={LENGTH_HEADER: str(len(header))})
    assert (answer.status_code, answer.json()) == (422, {"error": f"{len(GOOD)} bytes follow the tensors"})


@pytest.mark.parametrize(
    "header", [b"[]", b"null", b'{"inputs":5}', b'{"inputs":[5]}', b'{"inputs":[{"parameters":5}]}']
)
def test_json_that_is_no_request_is_left_to_the_schema(client: TestClient, header: bytes) -> None:
    answer = client.post(INFER, content=header, headers={LENGTH_HEADER: str(len(header))})
    assert answer.status_code == 422


def test_a_content_type_may_be_missing_or_bytes_under_v2_alone(client: TestClient) -> None:
    body = json.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}).encode()
    for kind, status in (
        ({}, 200),
        ({"content-type": "application/octet-stream"}, 200),
        ({"content-type": "a/b"}, 415),
    ):
        assert client.post(INFER, content=body, headers=kind).status_code == status
    assert client.post("/predict", content=b'{"inputs":"good"}').status_code == 415
    assert client.post(INFER, content=b"").status_code == 422


def test_versions_of_a_model_ask_for_a_key_too(tiny_onnx: Path) -> None:
    with TestClient(create_app(tiny_onnx, keys=ApiKeySet(["k"]))) as locked:
        for path in ("/v2/models/stats", "/v2/models/onnx/versions/1/config"):
            assert locked.get(path).status_code == 401
        assert locked.post("/v2/repository/index").status_code == 401
