"""What a pipeline was when its folder was last without faults: what is live goes on as it says."""

from __future__ import annotations

from datetime import datetime

from shared.domain.ledger import Definition
from shared.domain.pipelines import Pipeline
from shared.domain.records import from_record, to_record
from shared.ports.clock import Clock
from shared.ports.run_ledger import RunLedger


class LastValid:
    """One definition of each pipeline in the run ledger, so that every process and the next start know it."""

    def __init__(self, ledger: RunLedger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def keep(self, pipeline: Pipeline, sql: str) -> None:
        """Remember a valid definition with the text of its features.sql; the one that is known writes nothing."""
        now, record = self._clock.now(), to_record(pipeline)

        def change(present: Definition | None) -> Definition:
            if present and (present.definition, present.sql) == (record, sql):
                return present
            return Definition(pipeline=pipeline.name, definition=record, sql=sql, since=now)

        self._ledger.update(Definition, pipeline.name, "definition", change)

    def get(self, name: str) -> tuple[Pipeline, str, datetime] | None:
        """The definition, its features.sql and since when it held; None when there is none that this release takes."""
        kept = self._ledger.read(Definition, name, "definition")
        if kept is None:
            return None
        try:
            return from_record(Pipeline, kept.definition), kept.sql, kept.since
        except (ValueError, TypeError):
            # Another release kept it, with other rules; the folder's own faults are what can be said.
            return None
