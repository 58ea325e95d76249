"""Rollouts and their decisions as they are kept: where each stands, and why it went where it did."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, insert, select, update

from taoemb.errors import InputError, TaoembError
from taoemb.serving.events.database import reading, writing
from taoemb.serving.events.insert import insert_once
from taoemb.serving.events.rows import StoredDecision, StoredRollout
from taoemb.serving.events.tables import decisions, rollouts

_ROLLOUT = [rollouts.c[name] for name in StoredRollout._fields]
_DECISION = [decisions.c[name] for name in StoredDecision._fields]


class RolloutRecords:
    """Rollouts by name, and the decisions on them. Every method raises TaoembError when the database is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def names(self) -> list[str]:
        """Of all rollouts, the latest written first."""
        with reading(self._engine) as connection:
            return list(connection.scalars(select(rollouts.c.name).order_by(rollouts.c.at.desc(), rollouts.c.name)))

    def read(self, name: str) -> StoredRollout | None:
        """The rollout of that name; None when there is none."""
        with reading(self._engine) as connection:
            row = connection.execute(select(*_ROLLOUT).where(rollouts.c.name == name)).one_or_none()
        return None if row is None else StoredRollout._make(row)

    def create(self, name: str, plan: Mapping[str, Any], state: Mapping[str, Any], at: float) -> StoredRollout:
        """Keep a new rollout (JSON objects; `at` in Unix seconds). Raises InputError when the name is taken."""
        made = StoredRollout(name, dict(plan), dict(state), 1, at)
        with writing(self._engine) as connection:
            statement = insert_once(connection, rollouts).values(**made._asdict()).returning(rollouts.c.name)
            if connection.execute(statement).one_or_none() is None:
                raise InputError(f"rollout {name!r} is there already; give the new one another name")
        return made

    def update(self, known: StoredRollout, state: Mapping[str, Any], at: float) -> StoredRollout:
        """Write a new state over the one that the caller read; the rollout with its new version.

        Raises TaoembError when another process wrote it since, or removed it.
        """
        moved = known._replace(state=dict(state), version=known.version + 1, at=at)
        statement = (
            update(rollouts)
            .where(rollouts.c.name == known.name, rollouts.c.version == known.version)
            .values(state=moved.state, version=moved.version, at=at)
        )
        with writing(self._engine) as connection:
            if connection.execute(statement).rowcount != 1:
                raise TaoembError(
                    f"rollout {known.name!r}: another process moved it since version {known.version}; run again"
                )
        return moved

    def decide(self, name: str, at: float, verdict: Mapping[str, Any], measurement: Mapping[str, Any]) -> int:
        """Add a decision to the audit trail; its number. Takes what `to_json` of verdict and measured gives."""
        row = {"rollout": name, "at": at, "verdict": dict(verdict), "measurement": dict(measurement)}
        with writing(self._engine) as connection:
            return connection.execute(insert(decisions).values(**row).returning(decisions.c.number)).scalar_one()

    def decisions(self, name: str, after: int = 0) -> list[StoredDecision]:
        """The decisions on a rollout with numbers above `after`, the oldest first."""
        query = select(*_DECISION).where(decisions.c.rollout == name, decisions.c.number > after)
        with reading(self._engine) as connection:
            return [StoredDecision._make(row) for row in connection.execute(query.order_by(decisions.c.number))]

    def last_decision(self, name: str) -> StoredDecision | None:
        """The latest decision on a rollout; None before the first."""
        query = select(*_DECISION).where(decisions.c.rollout == name).order_by(decisions.c.number.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else StoredDecision._make(row)
