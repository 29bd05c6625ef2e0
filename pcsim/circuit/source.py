"""YAML in, plain values out, with the line of every key, so that each mistake is reported at its place."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pcsim.circuit.safety import refusal
from pcsim.errors import PcsimError, StudyError, nearest

Path_ = tuple[str | int, ...]


class Source(NamedTuple):
    """A parsed file (or a Python mapping): values, and where each of them stands."""

    name: str
    data: Any
    lines: Mapping[Path_, int]
    error: type[PcsimError] = StudyError
    overrides: Mapping[Path_, str] = {}
    """Values that do not stand in the file: the text of the override that set each of them."""

    def where(self, path: Path_) -> str:
        """`file:line: dotted.path` of the nearest place that has a line, or the override that made that place."""
        known = path
        while known and known not in self.lines:
            # a key above an override may stand nowhere else: `inferense.steps=3` makes `inferense`
            made = (text for place, text in self.overrides.items() if place[: len(known)] == known)
            if (text := self.overrides.get(known) or next(made, None)) is not None:
                return f"{_shown(text)}: {dotted(path)}"
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        return f"{self.name}{line}: {dotted(path)}" if path else f"{self.name}{line}"

    def fail(self, path: Path_, message: str) -> NoReturn:
        """Raise this source's error for the value at `path`."""
        raise self.error(f"{self.where(path)}: {message}")


def dotted(path: Iterable[str | int]) -> str:
    """`("nodes", "z", "shape", 0)` as `nodes.z.shape[0]`.

    >>> dotted(("nodes", "z", "shape", 0))
    'nodes.z.shape[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def read_yaml(path: Path, error: type[PcsimError] = StudyError) -> Source:
    """The values of a YAML 1.2 file (so `1e-3` is a number and `no` is a word), with the line of every key.

    Tags, duplicate keys and runaway aliases are refused: a file from a stranger cannot run code.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as failure:
        raise error(f"{path}: cannot read the file ({failure.strerror or failure})") from failure
    except UnicodeDecodeError as failure:
        raise error(f"{path}: not a text file in UTF-8 ({failure.reason})") from failure
    try:
        refused = refusal(text)
        tree = YAML(typ="rt", pure=True).load(text) if refused is None else None
    except MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1 if failure.problem_mark else 1
        raise error(f"{path}:{line}: not valid YAML: {failure.problem}") from failure
    except (YAMLError, ValueError) as failure:  # ValueError: the 45th of a month
        raise error(f"{path}: not valid YAML: {failure}") from failure
    if refused is not None:
        raise error(f"{path}:{refused.line}: {refused.message}")
    lines: dict[Path_, int] = {(): 1}
    source = Source(str(path), None, lines, error)
    values = _plain(tree, (), lines, source)
    if not isinstance(values, dict):
        source.fail((), "expected a mapping of keys to values")
    return source._replace(data=values)


def _plain(value: Any, path: Path_, lines: dict[Path_, int], source: Source) -> Any:
    if isinstance(value, CommentedMap):
        result: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                source.fail(path, f"the key {key!r} is not a word")
            here = (*path, key)
            lines[here] = value.lc.key(key)[0] + 1 if key in value.lc.data else lines.get(path, 1)
            result[key] = _plain(item, here, lines, source)
        return result
    if isinstance(value, CommentedSeq):
        for index in range(len(value)):
            lines[(*path, index)] = value.lc.item(index)[0] + 1
        return [_plain(item, (*path, i), lines, source) for i, item in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):  # ruamel's round-trip scalars are subclasses
        if isinstance(value, kind):
            return kind(value)
    source.fail(path, f"a {type(value).__name__} is not a value that pcsim reads")


def parse_override(text: str) -> tuple[Path_, Any]:
    """`inference.steps=50` as (("inference", "steps"), 50); the value is read as YAML.

    A number in the path is the place in a list, from 0. `--device=cpu` is `device=cpu`, given as an option.

    >>> parse_override("optimizer.step_size=1e-3")
    (('optimizer', 'step_size'), 0.001)
    """
    key, equals, value = text.removeprefix("--").partition("=")
    parts = key.split(".")
    if not equals or not all(part.isidentifier() or part.isdecimal() for part in parts):
        raise StudyError(f"{_shown(text)}: expected key.path=value, for example inference.steps=50")
    path = tuple(int(part) if part.isdecimal() else part for part in parts)
    try:
        return path, YAML(typ="safe", pure=True).load(value)
    except (YAMLError, ValueError) as failure:
        raise StudyError(f"{_shown(text)}: the value is not valid YAML: {failure}") from failure


def override(source: Source, texts: Iterable[str]) -> Source:
    """The source with `key.path=value` texts applied; errors in them point to the override."""
    data, lines, overrides = _copy(source.data), dict(source.lines), dict(source.overrides)
    for text in texts:
        path, value = parse_override(text)
        place = data
        for depth, part in enumerate(path):
            _check_step(text, place, path[: depth + 1])
            if depth == len(path) - 1:
                place[part] = value
            elif isinstance(place, dict) and place.get(part) is None:
                place[part] = {}
            place = place[part]
        lines = {known: line for known, line in lines.items() if known[: len(path)] != path}
        overrides[path] = text
    return source._replace(data=data, lines=lines, overrides=overrides)


def _check_step(text: str, place: Any, path: Path_) -> None:
    """Raise `StudyError` where the last part of `path` is no key or item of `place`."""
    at, part = dotted(path[:-1]), path[-1]
    if isinstance(place, list):
        if not isinstance(part, int):
            raise StudyError(f"{_shown(text)}: {at} is a list; write {at}.0 for its first item")
        if part >= len(place):
            here = f"items 0 to {len(place) - 1}" if place else "no items"
            raise StudyError(f"{_shown(text)}: {at} has {here}, not {part}; write {at}=[…] for another list")
    elif not isinstance(place, dict):
        raise StudyError(f"{_shown(text)}: {at} is {place!r}, it has no keys; write {at}=…")
    elif isinstance(part, int):
        raise StudyError(f"{_shown(text)}: {at or 'a study'} has keys, not the number {part}")


def _shown(text: str) -> str:
    """An override as its author wrote it: `--device cpu` was an option."""
    return text.replace("=", " ", 1) if text.startswith("--") else f"override {text!r}"


def _copy(value: Any) -> Any:
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value


def check_keys(source: Source, path: Path_, value: Any, valid: Iterable[str], what: str) -> dict[str, Any]:
    """`value` as a mapping that holds no key but the valid ones."""
    if not isinstance(value, dict):
        source.fail(path, f"expected a mapping ({what}), found {value!r}")
    names = list(valid)
    for key in value:
        if key not in names:
            source.fail((*path, key), f"unknown key; {nearest(key, names)}")
    return value


def choice(source: Source, path: Path_, value: Any, what: str) -> tuple[str, Any, Path_]:
    """`name` or `{name: arguments}` as (name, arguments, path of the arguments); no arguments are `{}`."""
    if isinstance(value, str):
        return value, {}, path
    if isinstance(value, dict) and len(value) == 1:
        ((name, arguments),) = value.items()
        return name, {} if arguments is None else arguments, (*path, name)
    source.fail(path, f"expected the name of a {what} or one {{name: arguments}} pair, found {value!r}")


def validate(source: Source, path: Path_, model: type[BaseModel], value: Any) -> Any:
    """`model(value)`; every violation is reported with its line and the nearest valid key."""
    try:
        return model.model_validate(value)
    except ValidationError as failure:
        found: dict[str, list[str]] = {}
        # a misspelt key is also a missing one: the first is what the reader can mend
        for item in sorted(failure.errors(), key=lambda item: item["type"] != "extra_forbidden"):
            place, message = _explain(source, path, model, value, item)
            found.setdefault(place, []).append(message)
        lines = [f"{place}: {' or '.join(dict.fromkeys(messages))}" for place, messages in found.items()]
        raise source.error("\n".join(lines)) from failure


def _explain(source: Source, path: Path_, model: type[BaseModel], value: Any, item: Any) -> tuple[str, str]:
    """The place of one violation, as a reader finds it, and what is wrong there."""
    seen = _visible(value, item["loc"])
    if item["type"] == "missing":
        seen = (*seen, item["loc"][-1])
    place = source.where((*path, *seen))
    if item["type"] == "extra_forbidden":
        owner = _owner(model, item["loc"][:-1])
        names = owner.model_fields if owner else {}
        return (
            place,
            f"unknown key; {nearest(item['loc'][-1], names) if names else 'no keys are expected here'}",
        )
    if item["type"] == "missing":
        return place, "missing; this key is needed"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] in ("dict_type", "model_type"):
        text = "expected a mapping, {key: value}"
    given = "" if isinstance(item["input"], dict) and seen else f" (found {item['input']!r})"
    return place, f"{text[:1].lower()}{text[1:]}{given}"


def _visible(value: Any, loc: tuple[str | int, ...]) -> Path_:
    """The parts of a pydantic location that stand in the value (names of union members do not)."""
    parts: list[str | int] = []
    for part in loc:
        inside = isinstance(value, dict) and part in value
        if inside or (isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)):
            parts.append(part)
            value = value[part]
    return tuple(parts)


def _owner(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    owner: type[BaseModel] | None = model
    for part in loc:
        field = owner.model_fields.get(str(part)) if owner else None
        if field is None:
            continue
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        owner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return owner
