"""Batch scoring: a file or folder of the lake in, predictions out, outside the app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.ports.jobs import JobStatus


@dataclass(frozen=True, kw_only=True)
class BatchScoringJob:
    """Score the lake file ``input`` with a model version into the lake file ``output`` (parquet).

    ``input`` is parquet, csv or json lines; with a slash at its end it is a folder of such files. Its
    columns are the model's or the landed ones. ``key`` and ``label`` are columns of the pipeline,
    ``positive`` the class of its gate, ``features`` the lake folder whose manifest tells how the
    model's input was made (empty: nobody knows), ``compute`` where it runs, for a backend that has a choice.

    With ``query``, the rows that this SQL gives in the backend's SQL pool are first put into the folder
    ``input``; with ``table``, the output is then loaded into that table of the pool, too, where it takes the
    place of what the same job had loaded before.

    The output has one row for each of the input, in its order: the key (``row``, counted from 1,
    where the input has no key), prediction, probability (of the positive class, of the likeliest
    where there is none; null for regression), version, and problem, which says why a row could not
    be scored and is null for all others.
    """

    name: str
    pipeline: str
    model: str
    version: str
    input: str
    output: str
    key: str
    label: str
    positive: str | None = None
    features: str = ""
    compute: str = "cpu-cluster"
    query: str = ""
    table: str = ""


class BatchService(Protocol):
    """Runs batch scoring jobs, each at most once per name."""

    def submit(self, job: BatchScoringJob) -> None:
        """Start the job and return at once. A second submit with the same name meets the first job.

        Raises :class:`~shared.errors.Missing` when the model version does not exist, and
        :class:`~shared.errors.Rejected` for ``query`` or ``table`` where there is no SQL pool.
        """
        ...

    def status(self, name: str) -> JobStatus | None:
        """The job's state, None when no job of that name was ever submitted.

        ``output`` is there, as a whole, when the job is completed, and as it was before in any other state.
        A job of whose first rows none can be scored is failed.
        """
        ...
