"""What became of the records, in numbers, and how the journal's disk does."""

from typing import Any, Final

from demand_maint._storage.journal import Journal
from demand_maint._storage.observation_store import ObservationStore

__all__ = ["journal_state", "record_counts", "refused_words"]

COUNTED: Final = (
    "records", "replaced", "duplicates", "corrected", "late", "too_old", "assumed_zero",
    "invalid_predictions", "invalid_actuals", "invalid_timestamps",
)  # fmt: skip


def record_counts(store: ObservationStore, journal: Journal, now: float) -> dict[str, int]:
    """Counters of what was drained, of what waits in the buffer, and of what the journal did not take."""
    counts = store.metrics.counts
    waiting, overdue, orphans = store.buffer.pending(now)
    return {name: counts[name] for name in COUNTED} | {
        "waiting": waiting,
        "unmatched": overdue + counts["unmatched"],
        "orphans": orphans + counts["orphans"],
        "refused": sum(journal.refused.values()),
        "dropped": journal.dropped,
    }


def journal_state(store: ObservationStore, journal: Journal) -> dict[str, Any]:
    """Whether records reach the disk, and what was found damaged there."""
    return {
        "state": "degraded" if journal.degraded else "ok",
        "reason": journal.degraded,
        "held": journal.held,
        "dropped": journal.dropped,
        "refused_examples": list(journal.examples),
        "damaged": list(store.drain_reader.writers.damaged),
    }


def refused_words(journal: Journal) -> str:
    """Say what this process logged that was no record, as the end of a sentence; empty where there was nothing."""
    refused = sum(journal.refused.values())
    return f"; {refused} records were refused, the last one: {journal.examples[-1]}" if refused else ""
