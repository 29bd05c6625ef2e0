"""Arguments of a named part (kernel, preconditioner, optimiser) checked against its own signature."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Strict, StrictInt, create_model

from pcsim.circuit.source import Path_, Source, validate
from pcsim.errors import nearest
from pcsim.study.schema import Named

STRICT: Mapping[Any, Any] = {int: StrictInt, float: Annotated[float, Strict()]}
"""A number is not a text, and `true` is no number."""


def arguments_of(
    source: Source,
    path: Path_,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    skip: tuple[str, ...] = (),
) -> dict[str, Any]:
    """`given` checked against a function's signature: unknown, missing and mistyped arguments are reported."""
    fields: dict[str, Any] = {
        name: (STRICT.get(p.annotation, p.annotation), ... if p.default is p.empty else p.default)
        for name, p in inspect.signature(function, eval_str=True).parameters.items()
        if name not in skip
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    model = create_model(getattr(function, "__name__", "arguments"), __config__=config, **fields)
    checked = validate(source, path, model, dict(given))
    return {name: getattr(checked, name) for name in fields}


def chosen(
    source: Source,
    path: Path_,
    table: Mapping[str, Callable[..., Any]],
    named: Named,
    skip: tuple[str, ...] = (),
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The table's entry of that name, with its checked arguments."""
    if named.name not in table:
        source.fail(path, f"no {path[-1]} {named.name!r}; {nearest(named.name, table)}")
    function = table[named.name]
    return function, arguments_of(source, path, function, named.arguments, skip)
