"""Bodies near the size limit that cost a careless server most: many small values, deep nesting, long strings."""

from __future__ import annotations

from collections.abc import Iterator

MANY = (
    b"1", b"1.5", b"null", b'""', b'"a"', b'"ab"', b'"\\u00e9"', b'"\\ud800"', b"[]", b'["a"]', b"[1]", b'["a","b"]',
    b"{}", b'{"text":"a"}', b'{"x":1}', b'{"":{}}', b"[[]]", b"9" * 300, b"9" * 640,
)  # fmt: skip
TENSOR = b'{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]}'
TEMPLATES: dict[str, tuple[bytes, ...]] = {
    "infer": (
        b'{"inputs":%s}',
        b'{"inputs":[%s]}',
        TENSOR.join((b'{"inputs":[', b"]}")).replace(b'["a"]', b"%s"),
        TENSOR.join((b'{"inputs":[', b"]}")).replace(b'["a"]', b'["a",%s]'),
        TENSOR.join((b'{"inputs":[', b"]}")).replace(b"[1]", b"%s"),
        TENSOR.join((b'{"inputs":[', b"]}")).replace(b'"text"', b"%s"),
        TENSOR.join((b'{"inputs":[', b'],"outputs":%s}')),
        TENSOR.join((b'{"inputs":[', b'],"parameters":%s}')),
        TENSOR.join((b'{"inputs":[', b'],"id":%s}')),
        TENSOR.join((b'{"inputs":[', b'],"x":%s}')),
    ),
    "predict": (
        b"%s", b'{"inputs":%s}', b'{"inputs":[["a"],%s]}', b'{"inputs":{"text":%s}}', b'{"inputs":"a","top_k":%s}',
        b'{"inputs":"a","truncation_direction":%s}', b'{"inputs":"a","x":%s}',
    ),
    "": (
        b"%s", b'{"inputs":%s}', b'{"inputs":["a",%s]}', b'{"inputs":"a","parameters":%s}',
        b'{"inputs":"a","parameters":{"top_k":%s}}', b'{"inputs":"a","options":%s}', b'{"options":{},"inputs":%s}',
    ),
    "admin": (
        b"%s", b'{"bundle":%s}', b'{"bundle":"x","force":%s}', b'{"bundle":"x","min_agreement":%s}',
        b'{"bundle":"x","y":%s}',
    ),
}  # fmt: skip


def values(size: int) -> Iterator[tuple[str, bytes]]:
    """JSON values of nearly `size` bytes, by name."""
    for value in MANY:
        yield f"many of {value[:20]!r}", b"[" + b",".join([value] * (size // (len(value) + 1) - 1)) + b"]"
    yield "keys", b"{" + b",".join(b'"%x":1' % i for i in range(size // 9)) + b"}"
    yield "a key again and again", b"{" + b",".join([b'"text":"a"'] * (size // 11 - 1)) + b"}"
    yield "deep lists", b"[" * (size // 2) + b"]" * (size // 2)
    yield "lists in lists", b"[" * 900 + b'"a"' + b",1" * (size // 2 - 1000) + b"]" * 900
    yield "a long number", b"9" * size
    yield "a long string", b'"' + b"a" * (size - 2) + b'"'
    yield "escapes", b'"' + b"\\u00e9" * (size // 6 - 1) + b'"'
    yield "words", b'"' + b"a " * (size // 2 - 1) + b'"'


def bodies(path: str, size: int) -> Iterator[tuple[str, bytes]]:
    """Bodies for an endpoint, by name: each of `values` in each of its fields."""
    kind = "admin" if path.startswith("/admin") else path.rpartition("/")[2]
    for template in TEMPLATES[kind]:
        for name, value in values(size - len(template)):
            yield f"{template.decode()} with {name}", template.replace(b"%s", value)
