"""What stands between a back end and the build: deadlines, the breaker, signatures, figures, levels."""

from __future__ import annotations

import pytest
import pytest_twisted
from contracts.cache_store import CacheStoreContract, key_of
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from sccache_twisted.errors import ConfigError, EntryTooLarge, StorageError, StorageTimeout
from sccache_twisted.interfaces import ICacheStore
from sccache_twisted.policy.backoff import Backoff
from sccache_twisted.policy.breaker import BreakerRules
from sccache_twisted.storage.breaker import Breaker
from sccache_twisted.storage.deadline import Deadline
from sccache_twisted.storage.levels import Level, Levels, WriteErrors
from sccache_twisted.storage.measured import LevelFigures, Measured
from sccache_twisted.storage.memory import MemoryStore
from sccache_twisted.storage.signed import Signed, read_signing_key

MIB = 1 << 20
SECRET = b"s" * 32
RULES = BreakerRules(2, Backoff(first=1.0, factor=2.0, longest=8.0))
KEY, OTHER = key_of("one"), key_of("other")


@implementer(ICacheStore)
class Moody:
    """A store in memory with moods: ``late`` (no answer), ``busy`` (none to puts), ``broken``, ``narrow``."""

    def __init__(self) -> None:
        self.mood = "well"
        self.under_way = []
        self.asked = 0
        self.inner = MemoryStore(8 * MIB)

    def _do(self, method, *arguments):
        self.asked += 1
        if self.mood == "late" or (self.mood == "busy" and method == self.inner.put):
            waiting = Deferred(self.under_way.remove)
            self.under_way.append(waiting)
            return waiting
        problems = {"broken": StorageError("It is broken."), "narrow": EntryTooLarge("It is narrow.")}
        return fail(problems[self.mood]) if self.mood in problems else method(*arguments)

    def get(self, key):
        return self._do(self.inner.get, key)

    def put(self, key, entry):
        return self._do(self.inner.put, key, entry)

    def delete(self, key):
        return self._do(self.inner.delete, key)

    def close(self):
        return self.inner.close()


def result(deferred):
    """What a Deferred has come to by now: its value, its error's class, or "nothing yet"."""
    found = ["nothing yet"]
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.type))
    return found[-1]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def figures():
    return LevelFigures("moody")


@implementer(ICacheStore)
class Visit:
    """A client of a store that outlives it."""

    def __init__(self, kept: MemoryStore) -> None:
        self._kept = kept
        self._open = True

    def get(self, key):
        return self._kept.get(key) if self._open else fail(StorageError("It is closed."))

    def put(self, key, entry):
        return self._kept.put(key, entry) if self._open else fail(StorageError("It is closed."))

    def delete(self, key):
        return self._kept.delete(key) if self._open else fail(StorageError("It is closed."))

    def close(self):
        self._open = False
        return succeed(None)


class TestAllOfThem(CacheStoreContract):
    """The contract through every decorator at once."""

    @pytest.fixture
    def open_store(self, clock):
        kept = MemoryStore(2 * self.capacity)

        def open_one():
            figures = LevelFigures("visit")
            store = Measured(Deadline(Signed(Visit(kept), SECRET, figures), clock, "It", 1, 1), figures, clock)
            return Levels([Level(Breaker(store, RULES, figures, clock, lambda: 1.0), figures)])

        return open_one


class TestDeadline:
    def test_a_late_answer_is_a_timeout_and_the_call_is_gone(self, clock):
        """At its deadline, not before, a call fails, and what it waited for is cancelled; puts may take longer."""
        moody = Moody()
        moody.mood = "late"
        store = Deadline(moody, clock, "Moody at x:1", 0.25, 10.0)
        getting, putting, deleting = store.get(KEY), store.put(KEY, b"x"), store.delete(KEY)
        clock.advance(0.24)
        assert len(moody.under_way) == 3
        clock.advance(0.02)
        assert result(getting) is StorageTimeout
        assert len(moody.under_way) == 2
        clock.advance(9.5)
        assert len(moody.under_way) == 2
        clock.advance(0.5)
        assert result(putting) is result(deleting) is StorageTimeout
        assert moody.under_way == []
        assert clock.getDelayedCalls() == []

    def test_entries_on_their_way_hold_a_bounded_memory(self, clock):
        """Beyond the bound an entry isn't stored; when others are done there is room again; one alone always may."""
        moody = Moody()
        moody.mood = "late"
        store = Deadline(moody, clock, "Moody", 1, 5, most_pending_bytes=100)
        first = store.put(KEY, bytes(150))
        assert result(store.put(OTHER, bytes(1))) is StorageError
        clock.advance(6)
        assert result(first) is StorageTimeout
        kept = [store.put(OTHER, bytes(50)) for _ in range(2)]
        assert result(store.put(OTHER, bytes(1))) is StorageError
        moody.under_way[0].callback(None)
        assert result(kept[0]) is None
        assert result(store.put(OTHER, bytes(1))) == "nothing yet"


class TestBreaker:
    def open_one(self, moody, figures, clock):
        return Breaker(Measured(moody, figures, clock), RULES, figures, clock, lambda: 1.0)

    def test_a_failing_store_is_left_alone_and_tried_again(self, clock, figures, events):
        """After the failures gets are None and puts dropped at once, counted; later one call sees if it is back."""
        moody = Moody()
        store = self.open_one(moody, figures, clock)
        result(store.put(KEY, b"x"))
        moody.mood = "broken"
        for _ in range(2):
            assert result(store.get(KEY)) is StorageError
            assert result(store.put(KEY, b"y")) is StorageError
        asked = moody.asked
        assert [result(store.get(KEY)), result(store.put(KEY, b"z")), result(store.delete(KEY))] == [None] * 3
        assert moody.asked == asked
        moody.mood = "well"
        clock.advance(0.9)
        assert result(store.get(KEY)) is None
        clock.advance(0.2)
        assert result(store.get(KEY)) == b"x"
        assert result(store.put(OTHER, b"x")) is None
        assert result(store.get(OTHER)) == b"x"
        assert figures.counts["get", "skipped"] == 2
        assert figures.counts["put", "skipped"] == figures.counts["delete", "skipped"] == 1
        told = [(name, event["operation"]) for name, event in events]
        assert told == [
            ("store_left_alone", "reads"),
            ("store_left_alone", "writes"),
            ("store_back", "reads"),
            ("store_back", "writes"),
        ]
        assert events[0][1]["sentence"] == "It is broken."

    def test_a_burst_that_is_late_together_is_one_failure(self, clock, figures):
        """A build begins with many look-ups; when a store is too slow for all of these, the next one is asked still."""
        moody = Moody()
        result(moody.inner.put(KEY, b"x"))
        store = Breaker(Deadline(moody, clock, "Moody", 0.25, 1.0), RULES, figures, clock, lambda: 1.0)
        moody.mood = "late"
        burst = [store.get(KEY) for _ in range(20)]
        clock.advance(0.25)
        assert [result(call) for call in burst] == [StorageTimeout] * 20
        moody.mood = "well"
        assert result(store.get(KEY)) == b"x"

    def test_reads_go_on_where_only_writes_fail(self, clock, figures):
        """A store that is full, or that we may only read, still gives what it has."""
        moody = Moody()
        store = self.open_one(moody, figures, clock)
        result(store.put(KEY, b"x"))
        for _ in range(3):
            moody.mood = "broken"
            result(store.put(KEY, b"y"))
            moody.mood = "well"
            assert result(store.get(KEY)) == b"x"
        assert figures.counts["put", "skipped"] == 1

    def test_what_is_too_large_is_no_failure(self, clock, figures):
        """A store that can't take large entries is neither failing nor left alone: they are counted, and not stored."""
        moody = Moody()
        moody.mood = "narrow"
        store = self.open_one(moody, figures, clock)
        assert [result(store.put(KEY, b"x")) for _ in range(5)] == [None] * 5
        assert figures.counts["put", "too_large"] == 5
        assert figures.counts["put", "skipped"] == 0

    def test_a_probe_that_its_caller_gives_up_is_no_answer(self, clock, figures):
        """When the one call that went through to see is cancelled, the next one goes through."""
        moody = Moody()
        store = self.open_one(moody, figures, clock)
        moody.mood = "broken"
        for _ in range(2):
            result(store.get(KEY))
        clock.advance(1)
        moody.mood = "late"
        probe = store.get(KEY)
        probe.addErrback(lambda _: None)
        assert result(store.get(KEY)) is None
        probe.cancel()
        moody.mood = "well"
        result(moody.inner.put(KEY, b"x"))
        assert result(store.get(KEY)) == b"x"


class TestSigned:
    def test_only_holders_of_the_secret_are_believed(self, figures, events):
        """What a stranger stores, moves or changes is a miss, counted and logged; what a friend stores is a hit."""
        bucket = MemoryStore(MIB)
        ours = Signed(bucket, SECRET, figures)
        friend = Signed(bucket, SECRET, LevelFigures("friend"))
        result(friend.put(KEY, b"object"))
        result(friend.put(OTHER, b"another"))
        assert result(ours.get(KEY)) == b"object"
        (name, sound), (other_name, other) = bucket._entries.items()
        assert {name, other_name}.isdisjoint({KEY, OTHER})
        planted = [
            other,
            b"",
            b"object",
            sound[:-1],
            sound[:20],
            sound + b"x",
            sound[:8] + bytes([sound[8] ^ 1]) + sound[9:],
        ]
        for number, entry in enumerate(planted, 1):
            result(bucket.put(name, entry))
            assert result(ours.get(KEY)) is None
            assert figures.counts["get", "bad_signature"] == number
        assert [event for event, _ in events] == ["bad_signature"] * len(planted)
        assert events[0][1]["key"] == KEY
        result(ours.put(KEY, b"object"))
        assert result(ours.get(KEY)) == b"object"

    def test_other_secrets_live_in_other_worlds(self, figures):
        """Whoever has another secret, or none, neither sees our entries nor overwrites nor removes them."""
        bucket = MemoryStore(MIB)
        ours, theirs = Signed(bucket, SECRET, figures), Signed(bucket, b"t" * 32, figures)
        result(ours.put(KEY, b"ours"))
        result(theirs.put(KEY, b"theirs"))
        result(bucket.put(KEY, b"unsigned"))
        result(theirs.delete(KEY))
        result(bucket.delete(KEY))
        assert result(theirs.get(KEY)) is None
        assert result(ours.get(KEY)) == b"ours"
        assert figures.counts["get", "bad_signature"] == 0

    @pytest.mark.parametrize(
        ("content", "mode", "words"),
        [(b"x" * 31 + b"\n\n", 0o600, "31 bytes"), (b"x" * 40, 0o640, "chmod 600"), (None, 0, "cannot be read")],
    )
    def test_a_bad_key_file_is_a_sentence(self, tmp_path, content, mode, words):
        """Too short, readable by others, absent: each is an error of configuration that says what to do."""
        path = tmp_path / "key"
        if content is not None:
            path.write_bytes(content)
            path.chmod(mode)
        with pytest.raises(ConfigError, match=words):
            read_signing_key(str(path))

    def test_blanks_around_a_key_do_not_count(self, tmp_path):
        """An editor's newline at the end is nobody's key."""
        path = tmp_path / "key"
        path.write_bytes(SECRET + b"\n")
        path.chmod(0o600)
        assert read_signing_key(str(path)) == SECRET


class TestMeasured:
    def test_every_outcome_is_counted_with_its_seconds(self, clock, figures):
        """Hits, misses, errors, time-outs, cancellations and what was too large, each by itself, in sccache's shape."""
        moody = Moody()
        store = Measured(moody, figures, clock)
        late = Measured(Deadline(moody, clock, "It", 0.5, 0.5), figures, clock)
        result(store.put(KEY, b"x"))
        result(store.get(KEY))
        result(store.get(OTHER))
        moody.mood = "late"
        waiting, given_up, timed_out = store.get(KEY), store.get(KEY), late.get(KEY)
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        timed_out.addErrback(lambda _: None)
        clock.advance(1.5)
        moody.under_way[0].callback(b"x")
        assert result(waiting) == b"x"
        moody.mood = "broken"
        result(store.put(KEY, b"x"))
        moody.mood = "narrow"
        result(store.put(KEY, b"x"))
        assert figures.counts == {
            ("put", "stored"): 1,
            ("get", "hit"): 2,
            ("get", "miss"): 1,
            ("get", "cancelled"): 1,
            ("get", "timeout"): 1,
            ("put", "error"): 1,
            ("put", "too_large"): 1,
        }
        told = figures.as_json(1)
        assert told["name"] == "L1 (moody)"
        assert (told["hits"], told["misses"], told["writes"], told["write_failures"]) == (2, 1, 1, 1)
        assert told["hit_duration"] == {"secs": 1, "nanos": 500_000_000}
        figures.clear()
        assert figures.as_json(1)["hits"] == 0


class TestLevels:
    @pytest.fixture
    def three(self):
        return [Moody(), Moody(), Moody()]

    def levels(self, stores, write_errors=WriteErrors.L0, **modes):
        made = [
            Level(store, LevelFigures(str(number)), **modes.get(f"level{number}", {}))
            for number, store in enumerate(stores)
        ]
        return Levels(made, write_errors)

    def test_a_hit_fills_the_faster_levels(self, three):
        """What only the slowest has comes back, and is in the faster ones afterwards, which are then asked alone."""
        levels = self.levels(three)
        result(three[2].inner.put(KEY, b"x"))
        assert result(levels.get(KEY)) == b"x"
        assert [result(store.inner.get(KEY)) for store in three] == [b"x"] * 3
        slow = three[2].asked
        assert result(levels.get(KEY)) == b"x"
        assert three[2].asked == slow
        told = [(figures.backfills_from, figures.backfills_to) for figures in levels.figures]
        assert told == [(0, 1), (0, 1), (2, 0)]

    def test_nobody_waits_for_a_copy(self, three):
        """A hit is delivered although a faster level hangs; closing gives the copy up."""
        levels = self.levels(three)
        result(three[1].inner.put(KEY, b"x"))
        three[0].mood = "busy"
        assert result(levels.get(KEY)) == b"x"
        result(three[1].inner.put(OTHER, b"y"))
        assert result(levels.get(OTHER)) == b"y"
        broken, _ = three[0].under_way
        broken.errback(StorageError("It broke."))
        three[0].under_way.remove(broken)
        assert result(levels.close()) is None
        assert three[0].under_way == []
        assert levels.figures[0].backfills_to == 0

    def test_a_failing_level_is_passed_over(self, three):
        """A level that fails is a miss where a later one has a hit; where none has, the failure is told."""
        levels = self.levels(three)
        result(three[2].inner.put(KEY, b"x"))
        three[0].mood = "broken"
        assert result(levels.get(KEY)) == b"x"
        assert result(levels.get(OTHER)) is StorageError
        three[0].mood = "well"
        assert result(levels.get(OTHER)) is None

    def test_read_only_and_write_only_are_kept(self, three):
        """Nothing is stored in or deleted from what is read-only; nothing is looked up in what is write-only."""
        levels = self.levels(three, level0={"writable": False}, level1={"readable": False})
        result(levels.put(KEY, b"x"))
        assert [result(store.inner.get(KEY)) for store in three] == [None, b"x", b"x"]
        result(three[2].inner.put(OTHER, b"y"))
        assert result(levels.get(OTHER)) == b"y"
        assert [result(store.inner.get(OTHER)) for store in three] == [None, None, b"y"]
        result(three[2].inner.delete(KEY))
        assert result(levels.get(KEY)) is None
        result(three[0].inner.put(KEY, b"given"))
        result(levels.delete(KEY))
        assert [result(store.inner.get(KEY)) for store in three] == [b"given", None, None]

    @pytest.mark.parametrize(
        ("write_errors", "broken", "fails"),
        [
            (WriteErrors.L0, {0}, True),
            (WriteErrors.L0, {1, 2}, False),
            (WriteErrors.ALL, {2}, True),
            (WriteErrors.ALL, set(), False),
            (WriteErrors.IGNORE, {0, 1, 2}, False),
        ],
    )
    def test_which_failure_makes_storing_fail(self, three, write_errors, broken, fails):
        """The first level's, any, or none, as the policy says; the levels that are well have the entry in any case."""
        levels = self.levels(three, write_errors)
        for number in broken:
            three[number].mood = "broken"
        assert result(levels.put(KEY, b"x")) is (StorageError if fails else None)
        assert [result(store.inner.get(KEY)) for store in three] == [None if n in broken else b"x" for n in range(3)]

    def test_a_read_only_first_level_fails_nothing(self, three):
        """Where the first level isn't written, the policy about it has nothing to say."""
        levels = self.levels(three, level0={"writable": False})
        three[1].mood = "broken"
        assert result(levels.put(KEY, b"x")) is None

    @pytest_twisted.ensureDeferred
    async def test_cancelling_ends_every_wait(self, three):
        """A cancelled get or put leaves nothing under way in any level."""
        levels = self.levels(three)
        for store in three:
            store.mood = "late"
        for call in (levels.get(KEY), levels.put(KEY, b"x")):
            call.addErrback(lambda _: None)
            call.cancel()
            await call
        assert [store.under_way for store in three] == [[], [], []]
