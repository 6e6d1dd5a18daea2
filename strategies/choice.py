"""One of several small configs, written as ``name`` or as ``{name: {knobs}}``.

``update: continuous``, ``estimator: {ewma: {halflife: 3d}}`` and ``addons: [{concentration:
{...}}]`` are all read, and written back, by the two functions below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer

from backtest.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SerializerFunctionWrapHandler


class Choice(BaseModel):
    """A frozen config that is known by a name and writes itself as ``{name: {fields}}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """How configs call it."""

    @model_serializer(mode="wrap")
    def _under_its_name(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: handler(self)}


def read_choice(kind: str, classes: tuple[type[Any], ...]) -> Callable[[Any], Any]:
    """Return a reader for a pydantic ``BeforeValidator``.

    Parameters
    ----------
    kind
        What is chosen, for the message: ``"update rule"``.
    classes
        The models to choose from; each has a ``name``.

    Returns
    -------
    Callable
        From an instance, ``"name"`` or ``{"name": {...}}`` to an instance; anything else
        raises ``ValueError`` with the nearest valid name.
    """
    by_name = {cls.name: cls for cls in classes}

    def read(value: Any) -> Any:
        if isinstance(value, classes):
            return value
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(
                f"write one {kind} as 'name' or as 'name: {{...}}'.{nearest('', by_name)}"
            )
        name, fields = next(iter(value.items()))
        if name not in by_name:
            raise ValueError(f"there is no {kind} {name!r}.{nearest(str(name), by_name)}")
        return by_name[name].model_validate(fields or {})

    return read
