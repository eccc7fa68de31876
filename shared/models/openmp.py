"""OpenMP, which scikit-learn's boosting computes with, in processes that answer one row after the other."""

from __future__ import annotations


def alone() -> None:
    """From now on what this thread begins is computed by this thread alone; other threads keep their teams.

    A team meets at the end of each of a hundred trees, and who is there first spins. For a few rows there is
    nothing to share, and where other work has the processors the meetings turn milliseconds into a second.
    Libraries that are loaded later are not held to it. Costs milliseconds: once for each thread.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        # It comes with scikit-learn: without it there is no OpenMP of scikit-learn's to hold.
        return
    for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
        library.set_num_threads(1)
