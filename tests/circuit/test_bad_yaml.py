"""What a YAML file may hold, and how each thing that it may not hold is refused."""

import time
from pathlib import Path

import pytest

from pcsim.circuit.source import dotted, override, parse_override, read_yaml
from pcsim.errors import CircuitError, StudyError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED = {
    "a tag": ("a: 1\nb: !foo 3\n", ":2: tag '!foo' is not allowed; write plain values"),
    "python object": ("a: !!python/object/apply:os.system {a: 1}\n", ":1: tag 'tag:yaml.org,2002:python"),
    "python call": ("a: !!python/object/apply:os.system [echo]\n", ":1: tag 'tag:yaml.org,2002:python"),
    "set": ("a: !!set {b, c}\n", ":1: tag 'tag:yaml.org,2002:set' is not allowed"),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", ':3: not valid YAML: found duplicate key "a"'),
    "duplicate below": ("a:\n  b: 1\n  b: 2\n", ':3: not valid YAML: found duplicate key "b"'),
    "billion laughs": (LAUGHS, "more than 1000000 values; do aliases repeat each other?"),
    "recursive list": ("a: &a [1, *a]\n", ":1: the alias *a stands inside itself"),
    "recursive mapping": ("a: &a\n  b: *a\n", ":2: the alias *a stands inside itself"),
    "anchor twice": ("a: &x 1\nb: &x 2\n", ":2: the anchor &x is given twice"),
    "unknown alias": ("a: *b\n", ":1: not valid YAML: found undefined alias"),
    "too deep": ("a: " + "[" * 3000 + "]" * 3000, ":1: nested more than 50 deep"),
    "a date": ("a: 1\nb: 2020-01-01\n", ":2: b: a date is not a value that pcsim reads"),
    "an impossible date": ("a: 2020-13-45\n", ": not valid YAML: "),
    "number as key": ("a: {1: 2}\n", ":1: a: the key 1 is not a word"),
    "tab": ("a:\n\t- b\n", ":2: not valid YAML: found character"),
    "open bracket": ("a: [1\n", "not valid YAML: expected ',' or ']'"),
    "zero byte": ("a: \x00\n", ": not valid YAML: unacceptable character"),
    "two documents": ("a: 1\n---\nb: 2\n", ":2: not valid YAML: but found another document"),
    "empty": ("", ":1: expected a mapping of keys to values"),
    "a list": ("- 1\n", ":1: expected a mapping of keys to values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    text, message = REFUSED[name]
    file = tmp_path / "s.yaml"
    file.write_text(text)
    begin = time.monotonic()
    with pytest.raises(StudyError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert time.monotonic() - begin < 2  # aliases are counted, not expanded


def test_unreadable_files(tmp_path: Path) -> None:
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CircuitError, match="not a text file in UTF-8"):
        read_yaml(binary, CircuitError)
    with pytest.raises(StudyError, match="cannot read the file"):
        read_yaml(tmp_path)


def test_yaml_1_2_values(tmp_path: Path) -> None:
    """YAML 1.2.2 core schema (section 10.3.2): `1e-3` is a float, `no` and `on` are words, `0o17` is 15."""
    file = tmp_path / "s.yaml"
    file.write_text(
        "a: 1e-3\nb: no\nc: on\nd: 0o17\ne: .inf\nf: ~\ng: true\nh: [1, -2.5e3]\ni: '1e-3'\nj: 012\n"
        "k: &k {x: 1}\nl: {<<: *k, y: 2}\n"
    )
    assert read_yaml(file).data == {
        "a": 1e-3, "b": "no", "c": "on", "d": 15, "e": float("inf"), "f": None, "g": True,
        "h": [1, -2500.0], "i": "1e-3", "j": 12, "k": {"x": 1}, "l": {"x": 1, "y": 2},
    }  # fmt: skip


def test_lines_of_keys_and_items(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("a: 1\nb:\n  c: 2\n  d:\n    - 3\n    - {e: 4}\n")
    source = read_yaml(file)
    assert source.where(("b", "d", 1, "e")) == f"{file}:6: b.d[1].e"
    assert source.where(("b", "new")) == f"{file}:2: b.new"
    assert source.where(()) == f"{file}:1"
    assert dotted(("b", "d", 1, "e")) == "b.d[1].e"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inference.steps", "expected key.path=value, for example inference.steps=50"),
        ("=5", "expected key.path=value"),
        ("a..b=5", "expected key.path=value"),
        ("a.0=5", "a has keys, not the number 0"),
        ("a=[1", "the value is not valid YAML"),
        ("a=2020-13-45", "the value is not valid YAML"),
        ("a=!!python/object/apply:os.system [echo]", "the value is not valid YAML"),
        ("a.b.c=1", "a.b is 1, it has no keys; write a.b=…"),
    ],
)
def test_bad_overrides(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("a: {b: 1}\n")
    with pytest.raises(
        StudyError, match=f"override {text!r}".replace("[", r"\[").replace(".", r"\.")
    ) as caught:
        override(read_yaml(file), [text])
    assert message in str(caught.value)


def test_overrides_replace_add_and_point_to_themselves(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("a: {b: {c: 1}, d: 2}\n")
    before = read_yaml(file)
    after = override(before, ["a.b=3", "e.f.g=1e-3", "h="])
    assert after.data == {"a": {"b": 3, "d": 2}, "e": {"f": {"g": 1e-3}}, "h": None}
    assert before.data == {"a": {"b": {"c": 1}, "d": 2}}
    assert after.where(("a", "b")) == "override 'a.b=3': a.b"
    assert after.where(("a", "b", "c")) == "override 'a.b=3': a.b.c"
    assert after.where(("a", "d")) == f"{file}:1: a.d"
    assert parse_override("x.y=[1, {z: 2}]") == (("x", "y"), [1, {"z": 2}])
