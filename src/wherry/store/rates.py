"""Rate limits over all processes, by the generic cell rate algorithm (GCRA).

A key's row holds one number, the theoretical arrival time: when its bucket will be full again. Taking moves it on by
`cost / rate`; there is room while it is no more than `burst / rate` ahead of now. See "Rate limiting, cells and GCRA",
https://brandur.org/rate-limiting.
"""

from __future__ import annotations

from wherry.store.database import Connection, Database, blob

SLACK = 1e-6
"""Seconds: floating point must not make a caller wait again who waited as long as it was told."""


class SQLRates:
    """A row a key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, key: str, *, cost: float, rate_per_minute: float, burst: float) -> float:
        if not (cost >= 0 and rate_per_minute > 0 and burst > 0):  # not: NaN is refused too
            raise ValueError(
                f"a cost of {cost} at {rate_per_minute} a minute in bursts of {burst} is no rate: "
                "the cost must not be negative, the others must be above 0"
            )
        if not cost:
            return 0.0
        interval = 60.0 / rate_per_minute

        def write(connection: Connection) -> float:
            self._database.lock(connection, f"rates:{key}")
            now = self._database.now(connection)
            row = connection.execute("SELECT full_at FROM rates WHERE key = ?", (blob(key),)).fetchone()
            full_at = now if row is None else max(now, row[0])
            wait = full_at - now - max(0.0, burst - cost) * interval
            if wait > SLACK:
                return wait
            connection.execute(
                "INSERT INTO rates (key, full_at) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET full_at = excluded.full_at",
                (blob(key), full_at + cost * interval),
            )
            return 0.0

        return self._database.write(write)

    def give_back(self, key: str, *, cost: float, rate_per_minute: float) -> None:
        row = (cost * 60.0 / rate_per_minute, blob(key))
        self._database.write(
            lambda connection: connection.execute("UPDATE rates SET full_at = full_at - ? WHERE key = ?", row)
        )
