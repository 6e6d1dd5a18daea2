"""Write a page for every preset, and the table of what each asks on recorded markets.

Run from the repository: ``python docs/presets/generate.py`` writes the pages and the list;
``python docs/presets/generate.py --replay --store STORE`` also replays every preset on the two
configs of ``configs/real`` and renews the tables in ``README.md``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from backtest.errors import RemarginError
from experiments.config import RunConfig, config_from, load_config
from experiments.run import inputs_of, replay_role
from strategies.choice import Choice
from strategies.portfolio import Portfolio, ask
from strategies.registry import PRESETS, knobs, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from experiments.run import Inputs

PAGES = Path(__file__).resolve().parent
CONFIGS = PAGES.parents[1] / "configs" / "real"
REPLAYED = ("perps-2020-2024", "options-2026")
ABOUT = ("about", "venue", "source", "read", "formula", "exact", "simplified")
CALL = {
    "asset": "BTC", "kind": "option", "call": True, "strike": 66_000, "expires_in": "30d",
    "iv": "50%",
}  # fmt: skip
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "1 BTC perpetual, long": [{"asset": "BTC", "quantity": 1}],
    "1,000 BTC perpetual, long": [{"asset": "BTC", "quantity": 1_000}],
    "1 BTC perpetual, long, and 20 ETH, short": [
        {"asset": "BTC", "quantity": 1},
        {"asset": "ETH", "quantity": -20},
    ],
    "1 call, short": [CALL | {"quantity": -1}],
    "1 call, short, hedged with 0.3 BTC perpetual": [
        CALL | {"quantity": -1},
        {"asset": "BTC", "quantity": 0.3},
    ],
    "1 call, short, and one 10 % higher, long": [
        CALL | {"quantity": -1},
        CALL | {"strike": 72_600, "quantity": 1},
    ],
}
"""Small portfolios on BTC at 60,000 and ETH at 3,000 US dollars."""
MARKET: dict[str, Any] = {
    "BTC": {"index": 60_000, "open_interest_usd": "2bn", "depth_usd": "40M", "volume_usd": "500M"},
    "ETH": {"index": 3_000, "open_interest_usd": "1bn", "depth_usd": "20M", "volume_usd": "250M"},
}
COLUMNS: dict[str, Callable[[dict[str, float]], str]] = {
    "capital efficiency": lambda m: f"{m['capital_efficiency']:.2f}x",
    "locked collateral, M USD": lambda m: f"{m['locked_collateral_usd'] / 1e6:,.1f}",
    "margin to notional": lambda m: f"{m['margin_to_notional']:.2%}".replace("%", " %"),
    "gross bad debt, USD": lambda m: f"{m['gross_bad_debt_usd']:,.0f}",
    "uncovered by the fund, USD": lambda m: f"{m['residual_bad_debt_usd']:,.0f}",
    "liquidations": lambda m: f"{m['liquidations']:,.0f}",
    "coverage": lambda m: f"{m['coverage']:.2%}".replace("%", " %"),
    "refused, bn USD": lambda m: f"{m['rejected_notional_usd'] / 1e9:,.2f}",
}


def preset_names() -> list[str]:
    """List the presets by name."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """Return a preset's file as plain values."""
    return dict(yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8")))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: bool = True) -> str:
    """Lay out a Markdown table; all columns but the first are numbers if ``right``."""
    rule = ["---", *(["---:" if right else "---"] * (len(head) - 1))]
    lines = [list(head), rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(name: str) -> str:
    """Write the page of one preset."""
    told = read_preset(name)
    body = {key: value for key, value in told.items() if key not in ABOUT}
    settings = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=96)
    chosen = policy(f"preset:{name}")
    own = [row for row in knobs(f"preset:{name}") if _in_force(chosen, row.name)]
    parts = [
        f"# {name}",
        f"{told['venue']}. {told['about']}.",
        f"Source: {told['source']}. Read {told['read']}.",
        "```yaml\n" + f"incumbent: {{preset: {name}}}\n" + "```",
        "## Formula",
        f"```text\n{str(told['formula']).strip()}\n```",
        "## What is exact",
        "\n".join(f"- {line}" for line in told["exact"]),
        "## What is simplified or assumed",
        "\n".join(f"- {line}" for line in told["simplified"]),
        "## What it asks",
        "BTC at 60,000 and ETH at 3,000 USD; the call strikes at 66,000, expires in 30 days and "
        "is marked at 50 % volatility. Open interest is 2 and 1 bn USD. US dollars against the "
        "whole equity, option value included.",
        table(("portfolio", "initial", "maintenance"), _examples(name)),
        f"## Parameters of `{body['policy']}`",
        table(
            ("parameter", "value", "from", "to", "unit", "meaning"),
            [(f"`{k.name}`", k.default, k.low, k.high, k.unit, k.doc) for k in own],
            right=False,
        ),
        "## The file",
        f"```yaml\n{settings}```",
    ]
    return "\n\n".join(parts) + "\n"


def _in_force(chosen: Any, path: str) -> bool:
    """Tell whether a knob is part of what a preset chose, and not of what it chose among."""
    if path.startswith(("update.", "addons.")):
        return False
    held = chosen
    for key in path.split("."):
        if isinstance(held, Choice) and key == held.name:
            continue
        if not hasattr(held, key):
            return False
        held = getattr(held, key)
    return True


def _examples(name: str) -> list[tuple[str, str, str]]:
    chosen = policy(f"preset:{name}")
    rows = []
    for label, legs in EXAMPLES.items():
        asked = ask(chosen, Portfolio.model_validate({"assets": MARKET, "positions": legs}))
        rows.append((label, f"{asked.initial_usd:,.2f}", f"{asked.maintenance_usd:,.2f}"))
    return rows


def listing() -> str:
    """Write the list of all presets."""
    rows = [
        (f"[{name}]({name}.md)", told["venue"], told["about"], f"`{told['policy']}`")
        for name in preset_names()
        for told in [read_preset(name)]
    ]
    return table(("preset", "venue", "rule", "policy"), rows, right=False)


def replayed(config: RunConfig, inputs: Inputs, tell: Callable[[str], None]) -> str:
    """Replay every preset as a config's incumbent and lay its numbers out."""
    rows = []
    for name in preset_names():
        tell(f"{config.file.stem}: {name}")
        raw = {**config.raw, "incumbent": {"preset": name}}
        try:
            result = replay_role(config_from(raw, config.file), "incumbent", inputs)
        except RemarginError as error:
            raise type(error)(f"preset {name}: {error}") from error
        rows.append((f"[{name}]({name}.md)", *(cell(result.metrics) for cell in COLUMNS.values())))
    return table(("preset", *COLUMNS), rows)


def put_between(text: str, mark: str, new: str) -> str:
    """Replace what stands between a page's two comments of one name."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"docs/presets/README.md: the comments of {mark!r} are missing.")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Write the pages, and with ``--replay`` the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--store", type=Path, default=None)
    given: Any = parser.parse_args(arguments)
    for name in preset_names():
        (PAGES / f"{name}.md").write_text(page(name), encoding="utf-8")
    readme = PAGES / "README.md"
    text = put_between(readme.read_text(encoding="utf-8"), "list", listing())
    if given.replay:
        for name in REPLAYED:
            config = load_config(CONFIGS / f"{name}.yaml")
            inputs = inputs_of(config, given.store)
            text = put_between(text, name, replayed(config, inputs, lambda done: print_line(done)))
    readme.write_text(text, encoding="utf-8")


def print_line(text: str) -> None:
    """Say what is being done."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
