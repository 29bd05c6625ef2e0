"""What a description of a circuit never needs and a hostile YAML file may hold, refused before a value is built."""

from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    NodeEvent,
    ScalarEvent,
)

MAX_VALUES = 1_000_000
"""Aliases in a hostile file can expand without bound; a description of a circuit never needs as much."""
MAX_DEPTH = 50


class Refusal(NamedTuple):
    """A line, and what is wrong there."""

    line: int
    message: str


class _Open(NamedTuple):
    anchor: str | None
    before: int
    """Values counted when the collection began."""


def refusal(text: str) -> Refusal | None:
    """The first tag, repeated or recursive anchor, depth or expanded size that is refused; None for a tame file.

    Sizes of aliases are added up, not expanded, so that the answer takes one pass over the text. Raises
    what ruamel raises where the text is not YAML.
    """
    sizes: dict[str, int] = {}
    stack: list[_Open] = []
    count = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        message = _look(event, sizes, stack)
        if isinstance(event, AliasEvent):
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, CollectionEndEvent):
            closed = stack.pop()
            if closed.anchor:
                sizes[closed.anchor] = count - closed.before
        elif isinstance(event, NodeEvent):
            if isinstance(event, CollectionStartEvent):
                stack.append(_Open(event.anchor, count))
            elif event.anchor:
                sizes[event.anchor] = 1
            count += 1
        if len(stack) > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} deep"
        elif count > MAX_VALUES:
            message = f"more than {MAX_VALUES} values; do aliases repeat each other?"
        if message:
            return Refusal(event.start_mark.line + 1, message)
    return None


def _look(event: Event, sizes: dict[str, int], stack: list[_Open]) -> str:
    """What is wrong with one event by itself; empty where nothing is."""
    if not isinstance(event, NodeEvent):
        return ""
    opened = {part.anchor for part in stack}
    if isinstance(event, AliasEvent):
        return f"the alias *{event.anchor} stands inside itself" if event.anchor in opened else ""
    if event.anchor and (event.anchor in sizes or event.anchor in opened):
        return f"the anchor &{event.anchor} is given twice"
    if isinstance(event, ScalarEvent | CollectionStartEvent) and event.ctag:
        return f"tag {str(event.ctag)!r} is not allowed; write plain values"
    return ""
