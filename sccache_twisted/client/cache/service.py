"""A compilation's way through the cache: looked up, waited for, stored. Its failures never fail a call.

Knows keys, manifests, entries and turns. Refuses to know how a result is made and where the store is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool

from sccache_twisted.client.cache import files
from sccache_twisted.client.cache.flights import Flights, Outcome, Turn
from sccache_twisted.client.cache.lookup import Lookup, entry_of
from sccache_twisted.client.cache.noting import ForeignHit
from sccache_twisted.client.cache.observer import FAILED, Observer, Trail
from sccache_twisted.client.cache.quick import Hit, hit
from sccache_twisted.client.cache.recipe import Recipe, Request, Sighted, predicted_recipe, recipe, sight, still_holds
from sccache_twisted.client.cache.shelf import Shelf
from sccache_twisted.client.cache.states import FileStates
from sccache_twisted.client.calls import Answered, LocalWatch
from sccache_twisted.client.inputs import Gathered, Listed, Question
from sccache_twisted.client.inputs.memo import Signature
from sccache_twisted.client.stats import Statistics
from sccache_twisted.client.toolchains import Toolchains
from sccache_twisted.errors import StorageError
from sccache_twisted.hashing import entry as entries
from sccache_twisted.hashing.entry import Entry
from sccache_twisted.hashing.envelope import Damaged
from sccache_twisted.hashing.note import Look
from sccache_twisted.interfaces import Finished, ICacheStore
from sccache_twisted.logs import events
from sccache_twisted.logs.events import EventLog
from sccache_twisted.model import OutputFile, RunsLocally
from sccache_twisted.storage.levels import Levels
from sccache_twisted.wire.hits import Served

_T = TypeVar("_T")
_MOST_WAITING_BYTES = 512 << 20
"""Results that wait to be stored; beyond that they are not stored: a slow store must not fill the memory."""

_LOOKS = 3
"""How often a call looks again because somebody stored a result that then wasn't its own."""


class CompileCache:
    """The cache of one client. ``store`` is its own: closed when it stops.

    A call waits at most ``patience_seconds`` for another one that compiles the same. ``observer`` is told what becomes
    of each look-up. ``bases``: the user's base directories.
    """

    def __init__(
        self,
        reactor: Any,
        store: ICacheStore,
        toolchains: Toolchains,
        statistics: Statistics,
        patience_seconds: float = 600.0,
        observer: Observer | None = None,
        bases: Sequence[bytes] = (),
    ) -> None:
        self._bases = tuple(base.rstrip(b"/") for base in bases)
        self.observer = observer or Observer(reactor)
        self.states = FileStates()
        self._patience_seconds = patience_seconds
        self._reactor = reactor
        self._store = store
        self._shelf = Shelf(reactor, store, statistics)
        self._first = store.first if isinstance(store, Levels) else None
        self._toolchains = toolchains
        self._statistics = statistics
        self._flights = Flights()
        self._writes: set[Deferred[None]] = set()
        self._waiting_bytes = 0
        self._log = EventLog.of("sccache_twisted.client", role="client")

    async def stop(self) -> None:
        """Store what waits to be stored, and close the store."""
        while self._writes:
            await self.settled()
        await self.observer.stop()
        await self._store.close()

    async def settled(self) -> None:
        """Wait for what is being stored now."""
        await DeferredList([_followed(write) for write in self._writes])

    # --- looking up ---

    async def begin(self, request: Request) -> Answered | Lookup | None:
        """The answer, if it is there; else a lookup that must be ended; None when this call can't be cached."""
        sighted = await self._in_thread(self._sight, request)
        if isinstance(sighted, Hit):
            return self._hit_at_once(sighted)
        if isinstance(sighted, str):
            self._statistics.not_cacheable(sighted)
            self.observer.refused(request.call, request.cwd, sighted, request)
            return None
        trail = Trail()
        if request.call.recache:
            trail.look = Look.RECACHE
            return Lookup(sighted, trail=trail)
        for _ in range(_LOOKS):
            landed = self._flights.landed
            answer = await self._direct(sighted, trail)
            if answer is not None:
                return answer
            turn = await self._turn(sighted.own_key)
            if turn is Turn.ALONE:
                break
            if turn is Turn.LOOK_AGAIN:
                continue
            lookup = Lookup(sighted, owner=True, trail=trail)
            if not self._flights.landed_since(sighted.own_key, landed):
                return lookup
            try:
                answer = await self._direct(sighted, trail)
            except BaseException:
                self.end(lookup, Outcome.CANCELLED)
                raise
            if answer is None:
                return lookup
            trail.noted = True
            self.end(lookup, Outcome.STORED)
            return answer
        return Lookup(sighted, trail=trail)

    def _turn(self, key: str) -> Deferred[Turn]:
        """Wait for a turn, but not for ever: its owner's compiler may have been stopped at a terminal."""
        turn = self._flights.join(key)
        return turn.addTimeout(self._patience_seconds, self._reactor, lambda _, __: Turn.ALONE)

    def recipe(
        self, lookup: Lookup, question: Question, gathered: Gathered, listed: Listed, *, fixed_time: bool
    ) -> Recipe | str:
        """What to look for and to store now that the inputs are known, or why it can't be stored. In a thread."""
        return recipe(lookup.sighted, question, gathered, listed, self.states, fixed_time=fixed_time)

    async def preprocessed(self, lookup: Lookup, made: Recipe) -> Answered | None:
        """The answer, if it lies under a key of the inputs."""
        lookup.trail.made = made
        if not lookup.sighted.request.call.recache:
            answer = await self._by_inputs(lookup, made)
            if answer is not None:
                return answer
        self.missed(lookup)
        return None

    async def _by_inputs(self, lookup: Lookup, made: Recipe) -> Answered | None:
        for key in made.keys:
            entry = await self._shelf.entry(key, lookup.trail)
            answer = await self._serve(lookup.sighted, entry) if entry is not None else None
            if answer is not None:
                lookup.passed_on = lookup.trail.by_text = True
                self._own(self._lead_to(lookup, made, key))
                return answer
        return None

    def missed(self, lookup: Lookup) -> None:
        """Count a result that could have been there and was not."""
        self._statistics.cache_missed(lookup.sighted.request.compilation)

    def again(self, lookup: Lookup, made: Recipe) -> Callable[[], Deferred[object]] | None:
        """What to ask after a wait whether the answer is there by now; None where nobody else stores."""
        if lookup.sighted.request.call.recache or not isinstance(self._store, Levels) or not self._store.shared:
            return None
        return lambda: Deferred.fromCoroutine(self._again(lookup, made))

    async def _again(self, lookup: Lookup, made: Recipe) -> Answered | None:
        if not await self._in_thread(still_holds, made, self.states):
            return None
        answer = await self._by_inputs(lookup, made)
        if answer is not None:
            self._statistics.cache_found_late(lookup.sighted.request.compilation)
        return answer

    def end(self, lookup: Lookup, outcome: Outcome = Outcome.NOT_STORED) -> None:
        """A lookup is over; whoever waits for it is told. Ending twice is fine."""
        if outcome is not Outcome.CANCELLED:
            self.observer.ended(lookup.sighted, lookup.trail, stored=outcome is Outcome.STORED)
        if lookup.owner:
            lookup.owner = False
            self._flights.end(lookup.sighted.own_key, outcome)

    # --- keeping ---

    def keep(self, lookup: Lookup, made: Recipe, outputs: Sequence[OutputFile], stdout: bytes, stderr: bytes) -> None:
        """Store a result that has been made elsewhere, later: the caller need not wait. Ends the lookup."""
        lookup.passed_on = True
        self._own(self._keep(lookup, made, entry_of(lookup, outputs, stdout, stderr)))

    def keep_predicted(
        self,
        lookup: Lookup,
        question: Question,
        gathered: Gathered,
        outputs: Sequence[OutputFile],
        stdout: bytes,
        stderr: bytes,
    ) -> None:
        """As :meth:`keep`, for a result whose inputs were predicted: its key is made now, where nobody waits for it."""
        lookup.passed_on = True
        self._own(self._keep_predicted(lookup, question, gathered, entry_of(lookup, outputs, stdout, stderr)))

    async def _keep_predicted(self, lookup: Lookup, question: Question, gathered: Gathered, entry: Entry) -> None:
        try:
            made = await self._in_thread(predicted_recipe, lookup.sighted, question, gathered, self.states)
        except BaseException:
            self.end(lookup, Outcome.CANCELLED)
            raise
        if isinstance(made, Recipe):
            lookup.trail.made = made
        else:
            lookup.trail.why_not = made
            self._statistics.not_cacheable(made)
            self.end(lookup)
            return
        await self._keep(lookup, made, entry)

    def watch(self, lookup: Lookup, made: Recipe) -> LocalWatch:
        """Somebody who keeps what a compiler on this machine is about to write. Ends the lookup."""
        lookup.passed_on = True
        before = tuple(files.stat(place.path) for place in made.sighted.request.places)
        return _Watch(self, lookup, made, before)

    async def keep_written(self, lookup: Lookup, made: Recipe, before: Sequence[Signature], ended: Finished) -> None:
        """Read what a compiler on this machine has written, if it saw what was keyed; then store it, later."""
        try:
            read = await self._in_thread(files.read_written, made, before, ended, self.states)
        except BaseException:
            self.end(lookup, Outcome.CANCELLED)
            raise
        if read is None or isinstance(read, str):
            if read is not None:
                self._statistics.not_cacheable(read)
            lookup.trail.why_not = FAILED if read is None else read
            self.end(lookup)
            return
        self._own(self._keep(lookup, made, read))

    async def _keep(self, lookup: Lookup, made: Recipe, entry: Entry) -> None:
        outcome = Outcome.NOT_STORED
        size = sum(len(output.data) for output in entry.outputs)
        self._waiting_bytes += size
        try:
            self._check_room()
            key, entry = await self._in_thread(made.to_store, entry)
            began = self._reactor.seconds()
            await self._store.put(key, await self._in_thread(entries.pack, key, entry))
            self._statistics.cache_written(self._reactor.seconds() - began)
            if await self._remember(lookup, made, key):
                outcome = Outcome.STORED
        except StorageError as problem:
            self._statistics.cache_write_errors += 1
            self._log.emit(events.CACHE_FAILED, what="store", reason=problem.sentence)
            lookup.trail.why_not = problem.sentence
        finally:
            self._waiting_bytes -= size
            self.end(lookup, outcome)

    def _check_room(self) -> None:
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            raise StorageError("more results wait to be stored than fit into memory.")

    async def _lead_to(self, lookup: Lookup, made: Recipe, key: str) -> None:
        outcome = Outcome.NOT_STORED
        try:
            if await self._remember(lookup, made, key):
                outcome = Outcome.STORED
        finally:
            self.end(lookup, outcome)

    async def _remember(self, lookup: Lookup, made: Recipe, key: str) -> bool:
        """Write into the manifest what leads to a result; whether it will be found. A damaged one begins anew."""
        if made.conditions is None:
            lookup.trail.why_not = "untraceable_input"
            return False
        of = lookup.sighted.key
        try:
            stored = await self._store.get(of)
            packed = await self._in_thread(files.with_set, of, stored, made, key)
            await self._store.put(of, packed)
        except StorageError as problem:
            self._statistics.cache_write_errors += 1
            self._log.emit(events.CACHE_FAILED, what="store", reason=problem.sentence)
            lookup.trail.why_not = problem.sentence
            return False
        return True

    def _own(self, work: Any) -> None:
        """See to it that a write ends before the store is closed."""
        write: Deferred[None] = Deferred.fromCoroutine(work)
        self._writes.add(write)

        def ended(result: Any) -> None:
            self._writes.discard(write)
            if result is not None:
                self._log.log.failure("a result could not be stored", result)

        write.addBoth(ended)

    # --- asking the store ---

    async def _direct(self, sighted: Sighted, trail: Trail) -> Answered | None:
        trail.look = Look.NO_MANIFEST
        stored = await self._shelf.get(sighted.key, trail)
        if stored is None:
            return None
        key = await self._in_thread(files.find, sighted, stored, self.states)
        if isinstance(key, Damaged):
            trail.look = Look.DAMAGED
            await self._shelf.drop(sighted.key, key)
            return None
        trail.look = Look.NO_SET if key is None else Look.NO_ENTRY
        entry = await self._shelf.entry(key, trail) if key is not None else None
        answer = await self._serve(sighted, entry) if entry is not None else None
        if answer is not None:
            self.observer.hit(sighted)
        elif entry is not None:
            trail.look = Look.UNFIT
        return answer

    async def _serve(self, sighted: Sighted, entry: Entry) -> Answered | None:
        """Write a stored result as the compiler would have; None where that can't be done."""
        request = sighted.request
        began = self._reactor.seconds()
        if not await self._in_thread(files.write, sighted, entry):
            return None
        self._statistics.cache_hit(request.compilation, self._reactor.seconds() - began)
        return Answered(0, entry.stdout, entry.stderr, cached=True)

    async def ask(self, key: str) -> bytes | None:
        """What is stored under a key, for somebody who explains; None also where that can't be told."""
        return await self._shelf.get(key, Trail())

    def _hit_at_once(self, hit: Hit) -> Answered:
        """Count what was found and written in a thread."""
        if self._first is not None:
            for seconds in hit.read_seconds:
                self._first.figures.add("get", "hit", seconds)
        self.observer.hit(hit.sighted)
        self._statistics.cache_hit(hit.sighted.request.compilation, hit.write_seconds)
        return Answered(0, hit.entry.stdout, hit.entry.stderr, cached=True)

    def hit_elsewhere(self, hit: Served) -> None:
        """Count what a hit server has found and written."""
        if isinstance(self._store, Levels) and self._store.on_disk is not None:
            for seconds in hit.read_seconds:
                self._store.on_disk.figures.add("get", "hit", seconds)
        self.observer.hit(ForeignHit(hit.source, hit.output, hit.key, hit.time_ns, hit.note))
        self._statistics.cache_hit_of(hit.language, hit.family, hit.write_seconds)

    def _sight(self, request: Request) -> Sighted | Hit | str:
        """What is known of a call, or why it can't be looked for; its result, where that is at hand. In a thread."""
        toolchain = self._toolchains.packaged(request.compilation.compiler, request.call.env)
        if isinstance(toolchain, RunsLocally):
            return toolchain.reason
        sighted = sight(request, toolchain.digest, self.states, self._bases)
        if sighted is None:
            return "unreadable_input"
        if self._first is None or self._first.at_hand is None or request.call.recache:
            return sighted
        return hit(sighted, self._first.at_hand, self.states) or sighted

    async def _in_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


@frozen
class _Watch:
    """Waits for a compiler on this machine. ``before``: how its outputs were."""

    cache: CompileCache
    lookup: Lookup
    made: Recipe
    before: tuple[Signature, ...]

    def ended(self, finished: Finished) -> Deferred[None]:
        """See LocalWatch."""
        return Deferred.fromCoroutine(self.cache.keep_written(self.lookup, self.made, self.before, finished))

    def abandoned(self) -> None:
        """See LocalWatch."""
        self.cache.end(self.lookup, Outcome.CANCELLED)


def _followed(work: Deferred[None]) -> Deferred[None]:
    """Fires when ``work`` has ended in whatever way."""
    done: Deferred[None] = Deferred()

    def ended(result: Any) -> Any:
        done.callback(None)
        return result

    work.addBoth(ended)
    return done
