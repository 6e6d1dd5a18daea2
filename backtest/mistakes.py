"""One sentence for a value that a config's model refuses: where, what, and a likely right one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from backtest.errors import nearest
from backtest.settings import TIME, is_share, models_in, quantity_text, unit_of

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic.fields import FieldInfo

_BOUNDS = {
    "less_than_equal": ("le", "above the highest allowed value,"),
    "less_than": ("lt", "too high; it must stay below"),
    "greater_than_equal": ("ge", "below the lowest allowed value,"),
    "greater_than": ("gt", "too low; it must be above"),
}
_PYDANTIC_SAYS = "Input should be "
_KEY = "[key]"
"""What pydantic appends to the place of a mapping's key."""


def first_mistake(error: ValidationError, where: str, model: type[BaseModel], written: Any) -> str:
    """Put the first complaint of a validation into one sentence.

    Parameters
    ----------
    error
        What pydantic raised.
    where
        Path of the validated value in its config, for example ``candidate``; empty for a whole
        config.
    model
        The model that refused it; units and valid keys are read off its fields.
    written
        What was validated, so that path and value are named as they were written.

    Returns
    -------
    str
        For example ``candidate.multiplier: 40 is above the highest allowed value, 12 sigmas.
        Did you mean 4.0?``
    """
    first = error.errors(include_url=False)[0]
    path, owner, value = _walk(model, written, first["loc"])
    place = ".".join([where, *path] if where else path)
    return f"{place}: {_complaint(first, owner, value)}".removeprefix(": ")


def _complaint(first: Any, owner: type[BaseModel] | None, value: Any) -> str:
    parts = [str(part) for part in first["loc"] if part != _KEY]
    key_of = first["loc"][-1:] == (_KEY,)
    name = parts[-2 if key_of else -1] if parts else ""
    kind = first["type"]
    info = _field(owner, name)
    if kind == "extra_forbidden":
        known = [i.alias or key for key, i in owner.model_fields.items()] if owner else []
        return f"there is no such key.{nearest(name, known)}"
    if kind == "missing":
        return "is missing."
    if value is None:
        value = first["input"]
    if kind == "literal_error" and info is not None:
        return f"{value!r} is not a choice.{nearest(str(value), _literals(info.annotation))}"
    if kind in _BOUNDS and info is not None:
        key, words = _BOUNDS[kind]
        unit, bound = unit_of(info), float(first["ctx"][key])
        # Behind an optional type pydantic shows what was written, not the number it made of it.
        number = first["input"] if isinstance(first["input"], int | float) else 0.0
        guess = _guess(number, info, str(value), bound if "equal" in kind else None)
        return f"{value} is {words} {quantity_text(bound, unit)}.{guess}"
    if kind == "model_type":
        models = models_in(info.annotation) if info is not None else []
        example = f", such as {name}: {{{_example(models[0])}}}" if models else ""
        return f"{_as_written(value)} must be a group of settings{example}."
    if kind == "tuple_type":
        return f"{_as_written(value)} must be a list in brackets, [first, second]."
    if str(first["msg"]).startswith(_PYDANTIC_SAYS):
        wanted = str(first["msg"]).removeprefix(_PYDANTIC_SAYS).partition(", unable")[0]
        return f"{value!r} must be {wanted}."
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    reason += "" if reason.endswith("?") else "."
    if isinstance(value, list | tuple):
        told = all(part in reason for part in _as_written(value).strip("[]").split(", "))
        return reason if told else f"{_as_written(value)}: {reason}"
    told = not isinstance(value, str | int | float) or str(value) in reason
    return reason if told else f"{value!r}: {reason}"


def _walk(
    model: type[BaseModel], written: Any, loc: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel] | None, Any]:
    """Follow an error's place through nested choices, whose names pydantic leaves out.

    Returns the path as it was written, the model that holds its last part, and what was
    written there.
    """
    path: list[str] = []
    owner: type[BaseModel] | None = model
    inside: Any = None
    for part in loc:
        if part == _KEY:
            return path[:-1], owner, path[-1]
        options = models_in(inside)
        if options and isinstance(part, str):
            owner = next((c for c in options if _field(c, part)), options[0])
            if not isinstance(written, dict):
                continue  # a short form such as 'price_range: 16%'
            name = next(iter(written), "")
            if part not in written and (chosen := _named(options, name)):
                owner = chosen
                path.append(str(name))
                written = written[name]
        path.append(str(part))
        if isinstance(written, dict | list | tuple):
            try:
                written = written[part]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                written = None
        if isinstance(part, str):
            info = _field(owner, part)
            inside = info.annotation if info else None
    return path, owner, written


def _field(model: type[BaseModel] | None, key: str) -> FieldInfo | None:
    """Find a field by the name that a config writes."""
    fields = model.model_fields.items() if model else ()
    return next((info for name, info in fields if key == (info.alias or name)), None)


def _named(options: list[type[BaseModel]], name: Any) -> type[BaseModel] | None:
    """Find the choice that is written under a name, such as ``ewma: {halflife: 3d}``."""
    return next((option for option in options if getattr(option, "name", None) == name), None)


def _example(model: type[BaseModel]) -> str:
    """Write the first setting of a group with a value that it may have."""
    key, info = next(iter(model.model_fields.items()))
    words = _literals(info.annotation)
    return f"{info.alias or key}: {words[-1] if words else '…'}"


def _as_written(value: Any) -> str:
    """Write a list as a config does, dates as dates."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_written, value))}]"
    return str(value)


def _literals(annotation: Any) -> list[str]:
    """List the words of a ``Literal``, also inside an optional or a mapping."""
    parts = get_args(annotation)
    words = [part for part in parts if isinstance(part, str)]
    return words or [word for part in parts for word in _literals(part)]


def _guess(number: float, info: FieldInfo, text: str, bound: float | None) -> str:
    """Guess a slipped decimal point or a forgotten percent sign; else name the bound."""
    unit = unit_of(info)
    percent = is_share(unit)
    if unit != TIME and number:
        unmarked = percent and "%" not in text
        for scale in (100.0, 10.0) if unmarked else (10.0, 100.0):
            for guess in (number / scale, number * scale):
                if _allows(info, guess):
                    return f" Did you mean {_number_text(guess, info, unit)}?"
    if bound is None:
        return ""
    return f" Did you mean {quantity_text(bound, unit)}?"


def _number_text(value: float, info: FieldInfo, unit: str) -> str:
    if is_share(unit) or unit == "USD":
        return quantity_text(value, unit)
    whole = "" if info.annotation is int or value % 1 else ".0"
    return f"{value:.6g}{whole}"


def _allows(info: FieldInfo, value: float) -> bool:
    """Tell whether a value lies within a field's bounds, and is whole where it must be."""
    tests = {"ge": value.__ge__, "gt": value.__gt__, "le": value.__le__, "lt": value.__lt__}
    if info.annotation is int and value % 1:
        return False
    return all(
        test(getattr(mark, key)) is True
        for mark in info.metadata
        for key, test in tests.items()
        if hasattr(mark, key)
    )
