"""Find a policy by name, preset or file, and build it from what a config says.

``volatility`` names a policy of this folder, ``preset:dydx-v4`` a file of
``configs/policies/presets``, and ``path/to/mine.py:Mine`` a class in a user's own file; the
class may be left out where the file has only one. Installed packages offer more by entry points,
see `strategies.plugins`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from backtest.errors import ConfigError, PolicyError, RemarginError, nearest
from backtest.mistakes import first_mistake
from backtest.settings import TIME, bounds_of, is_share, quantity_text, unit_of
from strategies.addons import ADDONS
from strategies.brackets import Brackets
from strategies.choice import Choice
from strategies.contract import MarginPolicy
from strategies.fixed import Fixed
from strategies.health import Health
from strategies.least_collateral import LeastCollateral
from strategies.open_interest_scaled import OpenInterestScaled
from strategies.plugins import load_offered, offered
from strategies.portfolio_grid import PortfolioGrid
from strategies.risk_factors import RiskFactors
from strategies.scenario import Scenario
from strategies.sensitivities import Sensitivities
from strategies.size_scaled import SizeScaled
from strategies.span import Span
from strategies.tail import Tail
from strategies.volatility import Volatility

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PRESETS = Path(__file__).resolve().parent.parent / "configs" / "policies" / "presets"
_PREFIX = "preset:"
_POLICIES: dict[str, type[MarginPolicy]] = {
    cls.name: cls
    for cls in (
        Fixed,
        Volatility,
        Tail,
        Scenario,
        Brackets,
        SizeScaled,
        OpenInterestScaled,
        LeastCollateral,
        Health,
        RiskFactors,
        PortfolioGrid,
        Span,
        Sensitivities,
    )
}
_ABOUT = ("about", "venue", "source", "read", "formula", "exact", "simplified")
"""Keys of a preset that describe it and configure nothing."""


@dataclass(frozen=True)
class KnobInfo:
    """One number of a policy as people read it; ``name`` is its path in a config."""

    name: str
    default: str
    low: str
    high: str
    unit: str
    doc: str


def names() -> list[str]:
    """List the policies, those of other packages, then the presets, as configs call them."""
    others = [name for name in offered() if name not in _POLICIES]
    return [*_POLICIES, *others, *(_PREFIX + preset for preset in preset_names())]


def preset_names() -> list[str]:
    """List the presets without their prefix."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def full_name(name: str) -> str:
    """Return a name as configs write it: a preset may be called without its prefix."""
    return _PREFIX + name if name in preset_names() and name not in names() else name


def about(name: str) -> dict[str, Any]:
    """Return what a preset says of itself: source, date, formula, what is exact; else nothing."""
    if not name.startswith(_PREFIX):
        return {}
    told = _read_preset(name.removeprefix(_PREFIX), "")
    return {key: told[key] for key in _ABOUT if key in told}


def describe(name: str) -> str:
    """Return one line on what a policy or preset does."""
    if name.startswith(_PREFIX):
        return str(_read_preset(name.removeprefix(_PREFIX), "")["about"])
    cls = policy_class(name)
    return (cls.__doc__ or "").strip().splitlines()[0]


def policy(name: str, **knobs: Any) -> MarginPolicy:
    """Build a policy from its name and knobs: ``policy("volatility", multiplier=4)``.

    Raises
    ------
    RemarginError
        As `load_policy`.
    """
    return load_policy({"policy": name, **knobs}, "")


def policy_class(spec: Mapping[str, Any] | str, where: str = "policy") -> type[MarginPolicy]:
    """Return the class that a spec would build, without reading its knobs.

    ``where`` is the spec's path in its config, the beginning of every message.

    Raises
    ------
    PolicyError
        As `load_policy`.
    """
    name, _ = _resolve(spec, where)
    return _class_of(name, where)


def load_policy(
    spec: Mapping[str, Any] | str | MarginPolicy, where: str = "policy"
) -> MarginPolicy:
    """Build a policy from a config.

    Parameters
    ----------
    spec
        A name, or a mapping of ``policy`` (or ``preset``) and knobs, or what
        `MarginPolicy.identity` returned.
    where
        Path of the spec in its config, the beginning of every message.

    Returns
    -------
    MarginPolicy
        Frozen and checked.

    Raises
    ------
    ConfigError
        If a knob is unknown, malformed or out of its bounds.
    PolicyError
        If there is no such policy, preset, file or class, or the file cannot be run.
    """
    if isinstance(spec, MarginPolicy):
        return spec
    name, knobs = _resolve(spec, where)
    cls = _class_of(name, where)
    version = knobs.pop("version", cls.version)
    if str(version) != cls.version:
        raise PolicyError(
            f"{_at(where, 'version')}: {name} is at version {cls.version}, not {version}; the "
            "same config may give other numbers now."
        )
    source = knobs.pop("source_sha256", None)
    if source is not None and (cls.origin is None or source != cls.origin[1]):
        raise PolicyError(f"{_at(where, 'policy')}: {name} has changed since this was recorded.")
    try:
        chosen = cls.model_validate(knobs)
    except ValidationError as error:
        raise ConfigError(first_mistake(error, where, cls, knobs)) from None
    preset = _preset_of(spec)
    if preset is not None and chosen == cls.model_validate(_settings_of(preset, where)):
        # Only what equals the preset number by number may be called by its name.
        chosen._preset = preset
    return chosen


def knobs(name: str) -> list[KnobInfo]:
    """List every number of a policy or preset, those of its parts by their path."""
    chosen = load_policy(name)
    rows = list(_knobs_of(chosen, ""))
    for addon in ADDONS:
        rows += _knobs_of(addon(), f"addons.{addon.name}.")
    return rows


def _knobs_of(model: BaseModel, path: str) -> Iterator[KnobInfo]:
    for field, info in type(model).model_fields.items():
        value = getattr(model, field)
        if isinstance(value, Choice):
            for cls in _siblings(value, info.annotation):
                part = value if isinstance(value, cls) else cls()
                yield from _knobs_of(part, f"{path}{field}.{cls.name}.")
            continue
        low, high = bounds_of(info)
        if low is None or high is None or not isinstance(value, int | float):
            continue
        unit = unit_of(info)
        plain = "" if unit not in (TIME, "USD") and not is_share(unit) else unit
        yield KnobInfo(
            path + field,
            quantity_text(value, plain),
            quantity_text(low, plain),
            quantity_text(high, plain),
            unit,
            info.description or "",
        )


def _siblings(value: Choice, annotation: Any) -> tuple[type[Choice], ...]:
    options = getattr(annotation, "__args__", ())
    return tuple(c for c in options if isinstance(c, type) and issubclass(c, Choice)) or (
        type(value),
    )


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _resolve(spec: Mapping[str, Any] | str, where: str) -> tuple[str, dict[str, Any]]:
    """Return the policy's name and its knobs, a preset's below those that were written."""
    if isinstance(spec, str):
        spec = {"policy": spec}
    knobs = dict(spec)
    name = knobs.pop("policy", None)
    knobs.pop("preset", None)
    preset = _preset_of(spec)
    if preset is not None:
        name = str(_read_preset(preset, where)["policy"])
        return name, {**_settings_of(preset, where), **knobs}
    if not isinstance(name, str):
        raise PolicyError(
            f"{_at(where, 'policy')}: is missing; write one of {', '.join(names())}, "
            "or file.py:Class."
        )
    return name, knobs


def _preset_of(spec: Mapping[str, Any] | str) -> str | None:
    """Return the preset that a spec names, as ``preset: NAME`` or as ``policy: preset:NAME``."""
    name = spec if isinstance(spec, str) else spec.get("policy")
    if isinstance(name, str) and name.startswith(_PREFIX):
        return name.removeprefix(_PREFIX)
    preset = None if isinstance(spec, str) else spec.get("preset")
    return None if preset is None else str(preset)


def _settings_of(preset: str, where: str) -> dict[str, Any]:
    """Return what a preset sets of its policy."""
    told = _read_preset(preset, where)
    return {key: value for key, value in told.items() if key not in (*_ABOUT, "policy")}


def _read_preset(preset: str, where: str) -> dict[str, Any]:
    import yaml

    path = PRESETS / f"{preset}.yaml"
    known = preset_names()
    if preset not in known:
        raise PolicyError(
            f"{_at(where, 'preset')}: there is no preset {preset!r}.{nearest(preset, known)}"
        )
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _class_of(name: str, where: str) -> type[MarginPolicy]:
    if name in _POLICIES:
        return _POLICIES[name]
    file, colon, wanted = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _class_in_file(Path(file), wanted, where)
    if name.endswith(".py"):
        return _class_in_file(Path(name), "", where)
    points = offered()
    if name in points:
        return _whole(load_offered(points[name], _at(where, "policy")), name, where)
    raise PolicyError(
        f"{_at(where, 'policy')}: there is no policy {name!r}.{nearest(name, names())}"
    )


def _class_in_file(path: Path, wanted: str, where: str) -> type[MarginPolicy]:
    """Load a user's file under a private name, so that it can neither shadow nor be shadowed."""
    place = _at(where, "policy")
    if not path.is_file():
        raise PolicyError(f"{place}: there is no file {path}.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    module_name = f"_remargin_policy_{digest[:16]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise PolicyError(f"{place}: {path} cannot be read as Python.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except RemarginError:
            del sys.modules[module_name]
            raise
        except Exception as error:
            del sys.modules[module_name]
            raise PolicyError(
                f"{place}: {path} fails with {type(error).__name__}: {error}."
            ) from error
    found = {
        key: value
        for key, value in vars(sys.modules[module_name]).items()
        if isinstance(value, type)
        and issubclass(value, MarginPolicy)
        and value.__module__ == module_name
    }
    if not wanted and len(found) == 1:
        wanted = next(iter(found))
    if not wanted and found:
        raise PolicyError(
            f"{place}: {path} has several policy classes; write {path}:CLASS with one of "
            f"{', '.join(found)}."
        )
    if wanted not in found:
        said = repr(wanted) if wanted else "at all"
        raise PolicyError(f"{place}: {path} has no policy class {said}.{nearest(wanted, found)}")
    found[wanted].origin = (f"{path}:{wanted}", digest)
    return _whole(found[wanted], f"{path}:{wanted}", where)


def _whole(cls: type[MarginPolicy], name: str, where: str) -> type[MarginPolicy]:
    """Refuse a class that lacks a part of the contract, in words rather than a traceback."""
    lacking = [key for key in ("name", "requirement") if not hasattr(cls, key)]
    lacking += sorted(getattr(cls, "__abstractmethods__", ()))
    if lacking:
        raise PolicyError(f"{_at(where, 'policy')}: {name} lacks {', '.join(lacking)}.")
    return cls
