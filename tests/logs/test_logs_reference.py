"""docs/events.md and the vocabulary say the same."""

from pathlib import Path

from sccache_twisted.logs.events import VOCABULARY
from sccache_twisted.logs.reference import events_page

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_page_is_the_vocabulary():
    """Every event, its level, identifiers and fields stand in docs/events.md; ``make docs`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == events_page()


def test_what_is_about_a_job_says_which():
    """A name that begins with job, lease or blobs is about a job, and declares its identifiers."""
    for name, event in VOCABULARY.items():
        if name.startswith(("job_", "lease_", "blobs_", "worker_asked", "worker_refused", "worker_accepted")):
            assert event.ids[:2] == ("job_id", "attempt"), name
        assert not set(event.ids) & set(event.fields)
