"""OKX's options: the same contracts as Deribit's, in lots of a hundredth of a bitcoin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY

if TYPE_CHECKING:
    from data_ingest.simulator.deribit_options import OptionDesk

TRADES_PAGE = 100
DELIVERIES_KEPT_MS = 92 * MS_PER_DAY


class OkxOptions:
    """One asset's options as the exchange publishes them.

    A contract is worth ``ctVal`` times ``ctMult`` coins; a reader that forgets the multiplier is
    a hundred times (bitcoin) or ten times (ether) off.

    Parameters
    ----------
    desk
        The option market.
    """

    def __init__(self, desk: OptionDesk) -> None:
        self._desk, self._listing = desk, desk.listing
        self._multiplier = 0.01 if self._listing.asset == "BTC" else 0.1
        self.family = f"{self._listing.asset}-USD"
        self.names = [self._name(row) for row in range(len(self._listing.names))]
        self.position = {name: row for row, name in enumerate(self.names)}

    def instruments(self, now_ms: int) -> list[dict[str, Any]]:
        """Return the living options; the exchange lists no expired ones."""
        listing = self._listing
        return [
            {
                "instType": "OPTION",
                "instId": self.names[row],
                "instFamily": self.family,
                "uly": self.family,
                "alias": "",
                "baseCcy": "",
                "quoteCcy": "",
                "settleCcy": listing.asset,
                "category": "1",
                "ctType": "",
                "ctVal": "1",
                "ctMult": f"{self._multiplier:g}",
                "ctValCcy": listing.asset,
                "expTime": str(int(listing.expiry_ms[row])),
                "listTime": str(int(listing.listed_ms[row])),
                "lever": "",
                "lotSz": "1",
                "minSz": "1",
                "optType": "C" if listing.is_call[row] else "P",
                "stk": f"{listing.strike[row]:g}",
                "state": "live",
                "tickSz": "0.0001",
            }
            for row in listing.alive(now_ms).tolist()
        ]

    def summary(self, now_ms: int, expiry: str = "") -> list[dict[str, str]]:
        """Return volatilities and sensitivities of the chain, of one ``YYMMDD`` or of all."""
        rows = self._alive(now_ms)
        if not len(rows):
            return []
        quotes = self._desk.quotes(rows, now_ms)
        greeks = self._desk.sensitivities(rows, quotes, now_ms)
        found = []
        for place, row in enumerate(rows.tolist()):
            if expiry and self.names[row].split("-")[2] != expiry:
                continue
            forward = float(quotes["forward"][place])
            found.append(
                {
                    "instType": "OPTION",
                    "instId": self.names[row],
                    "uly": self.family,
                    "markVol": f"{quotes['iv'][place]:.10f}",
                    "bidVol": f"{quotes['bid_iv'][place]:.10f}",
                    "askVol": f"{quotes['ask_iv'][place]:.10f}",
                    "realVol": "",
                    "volLv": "",
                    "fwdPx": f"{forward:.10f}",
                    "deltaBS": f"{greeks.delta[place]:.10f}",
                    "gammaBS": f"{greeks.gamma[place]:.10f}",
                    "vegaBS": f"{greeks.vega[place]:.10f}",
                    "thetaBS": f"{greeks.theta[place]:.10f}",
                    "delta": f"{greeks.delta[place] - quotes['mark'][place]:.10f}",
                    "gamma": f"{greeks.gamma[place]:.10f}",
                    "vega": f"{greeks.vega[place] / forward:.10f}",
                    "theta": f"{greeks.theta[place] / forward:.10f}",
                    "lever": f"{1.0 / max(float(quotes['mark'][place]), 1e-6):.10f}",
                    "ts": str(now_ms),
                }
            )
        return found

    def marks(self, now_ms: int) -> list[dict[str, str]]:
        """Return the mark of every living option, in coins."""
        rows = self._alive(now_ms)
        if not len(rows):
            return []
        marks = self._desk.quotes(rows, now_ms)["mark"]
        return [
            {
                "instType": "OPTION",
                "instId": self.names[row],
                "markPx": f"{mark:.10f}",
                "ts": str(now_ms),
            }
            for row, mark in zip(rows.tolist(), marks.tolist(), strict=True)
        ]

    def tickers(self, now_ms: int) -> list[dict[str, str]]:
        """Return quotes and the last day of every living option."""
        rows = self._alive(now_ms)
        if not len(rows):
            return []
        quotes, day = self._desk.quotes(rows, now_ms), self._desk.last_day(now_ms)
        found = []
        for place, row in enumerate(rows.tolist()):
            bid, ask = float(quotes["bid"][place]), float(quotes["ask"][place])
            last = float(day["last"][row])
            found.append(
                {
                    "instType": "OPTION",
                    "instId": self.names[row],
                    "last": f"{last:g}" if last else "",
                    "lastSz": "1" if last else "0",
                    "askPx": f"{ask:g}",
                    "askSz": "100",
                    "bidPx": f"{bid:g}" if bid else "",
                    "bidSz": "100" if bid else "0",
                    "open24h": "",
                    "high24h": f"{day['high'][row]:g}" if last else "",
                    "low24h": f"{day['low'][row]:g}" if last else "",
                    "volCcy24h": f"{day['volume'][row]:.4f}",
                    "vol24h": f"{day['volume'][row] / self._multiplier:.0f}",
                    "ts": str(now_ms),
                }
            )
        return found

    def open_interest(self, now_ms: int) -> list[dict[str, str]]:
        """Return what is open in every living option, in contracts, coins and dollars."""
        rows = self._alive(now_ms)
        coins, index = self._listing.open_interest(rows, now_ms), self._desk.index_usd(now_ms)
        return [
            {
                "instType": "OPTION",
                "instId": self.names[row],
                "oi": f"{held / self._multiplier:.0f}",
                "oiCcy": f"{held:.4f}",
                "oiUsd": f"{held * index:.2f}",
                "ts": str(now_ms),
            }
            for row, held in zip(rows.tolist(), coins.tolist(), strict=True)
        ]

    def trades(self, now_ms: int, wanted: str | None = None) -> list[dict[str, str]]:
        """Return the newest hundred prints, of one option or of all; there is no way further."""
        prints = self._listing.trades(now_ms - 8 * MS_PER_DAY, now_ms)
        found = np.arange(len(prints.ts_ms))
        if wanted is not None:
            found = np.flatnonzero(prints.option == self.position[wanted])
        newest = found[::-1][:TRADES_PAGE]
        options = prints.option[newest]
        forward = self._listing.surface.forward_usd(
            prints.ts_ms[newest], self._listing.expiry_ms[options]
        )
        return [
            {
                "instId": self.names[prints.option[at]],
                "instFamily": self.family,
                "optType": "C" if self._listing.is_call[prints.option[at]] else "P",
                "tradeId": str(int(prints.trade_id[at])),
                "px": f"{prints.price_coin[at]:g}",
                "sz": f"{prints.amount[at] / self._multiplier:.0f}",
                "side": "buy" if prints.is_buy[at] else "sell",
                "fillVol": f"{prints.iv[at]:.6f}",
                "fwdPx": f"{forward_usd:.6f}",
                "idxPx": f"{prints.index_usd[at]:.2f}",
                "markPx": f"{prints.mark_coin[at]:.6f}",
                "ts": str(int(prints.ts_ms[at])),
            }
            for at, forward_usd in zip(newest.tolist(), forward.tolist(), strict=True)
        ]

    def deliveries(self, window: tuple[int, int], now_ms: int, limit: int) -> list[dict[str, Any]]:
        """Return what expired in a window, newest expiry first, one row per expiry."""
        listing = self._listing
        first_ms, last_ms = max(window[0], now_ms - DELIVERIES_KEPT_MS), min(window[1], now_ms)
        expiries = np.unique(listing.expiry_ms)
        wanted = expiries[(expiries >= first_ms) & (expiries <= last_ms)][::-1][:limit]
        found = []
        for expiry_ms in wanted.tolist():
            settled = self._desk.delivery_price_usd(expiry_ms)
            details = []
            for row in np.flatnonzero(listing.expiry_ms == expiry_ms).tolist():
                gain = settled - listing.strike[row]
                exercised = gain > 0 if listing.is_call[row] else gain < 0
                details.append(
                    {
                        "insId": self.names[row],
                        "px": f"{settled:.2f}",
                        "type": "exercised" if exercised else "expired_otm",
                    }
                )
            found.append({"ts": str(expiry_ms), "details": details})
        return found

    def book(self, wanted: str, now_ms: int) -> dict[str, Any]:
        """Return one option's best quotes as a book."""
        rows = np.array([self.position[wanted]])
        quotes = self._desk.quotes(rows, now_ms)
        bid, ask = float(quotes["bid"][0]), float(quotes["ask"][0])
        return {
            "asks": [[f"{ask:g}", "100", "0", "1"]],
            "bids": [[f"{bid:g}", "100", "0", "1"]] if bid else [],
            "ts": str(now_ms),
            "seqId": now_ms,
        }

    def _alive(self, now_ms: int) -> np.ndarray:
        return self._listing.alive(now_ms)

    def _name(self, row: int) -> str:
        listing = self._listing
        day = datetime.fromtimestamp(int(listing.expiry_ms[row]) / 1_000, tz=UTC)
        side = "C" if listing.is_call[row] else "P"
        return f"{self.family}-{day:%y%m%d}-{listing.strike[row]:g}-{side}"
