from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sccache_twisted.model import ClientId, Digest, ServerId
from sccache_twisted.policy.fairness import FairQueue, Waiting
from sccache_twisted.policy.ladder import Ladder
from sccache_twisted.policy.placement import Pool, Seat, Wish
from sccache_twisted.policy.standing import Grade, Standing

GCC, CLANG = Digest("a" * 64), Digest("b" * 64)
GIB = 1 << 30


def anybody(_):
    return True


def seat(name, **facts):
    return Seat(ServerId(name), **{"slots": 4, "memory_bytes": 8 * GIB, **facts})


def pool(*seats, gcc=()):
    made = Pool()
    for each in seats:
        made.put(each, {GCC} if each.server_id in gcc else set())
    return made


def test_the_idlest_worker_is_chosen():
    """Among equals the lowest load per slot wins, whether the load is ours or somebody else's."""
    assert pool(seat("a", booked=2), seat("b", slots=8, booked=3)).choose(Wish(GCC)) == "b"
    assert pool(seat("a", other_load=3.0), seat("b", booked=1)).choose(Wish(GCC)) == "b"


def test_a_toolchain_at_hand_beats_idleness():
    """A worker that has the toolchain is preferred to an idler one that has not."""
    assert pool(seat("a", booked=3), seat("b"), gcc={"a"}).choose(Wish(GCC)) == "a"
    assert pool(seat("a", booked=3), seat("b"), gcc={"a"}).choose(Wish(CLANG)) == "b"


def test_trust_beats_a_toolchain():
    """A suspect worker is asked behind a trusted one, whatever it holds."""
    assert pool(seat("a", grade=Grade.UNREACHABLE), seat("b"), gcc={"a"}).choose(Wish(GCC)) == "b"


def test_fewest_recent_faults_break_ties():
    """Of two that are about equally loaded, the one with fewer recent faults is chosen."""
    faulty = Standing(60.0).failed(10.0)
    blame = faulty.faults.order(60.0)
    assert pool(seat("a", blame=blame), seat("b", other_load=0.1)).choose(Wish(GCC)) == "b"


def test_an_avoided_worker_is_the_last_resort():
    """A job waits for a full worker rather than go to one that it avoids, until nobody else is left."""
    made = pool(seat("a"), seat("b", booked=4))
    wish = Wish(GCC, avoid=frozenset({ServerId("a")}))
    assert made.choose(wish) is None
    assert not made.admits(ServerId("a"), wish)
    made.put(seat("b", grade=Grade.SILENT), set())
    assert made.choose(wish) == "a"
    made.drop(ServerId("b"))
    assert made.admits(ServerId("a"), wish)


def test_memory_is_set_aside():
    """A worker whose expected memory is spoken for is not asked, though it has slots."""
    assert pool(seat("a", booked_bytes=7 * GIB)).choose(Wish(GCC, 2 * GIB)) is None
    assert pool(seat("a", booked_bytes=7 * GIB), seat("b", booked=3)).choose(Wish(GCC, 2 * GIB)) == "b"


def test_expected_memory_is_capped_at_the_largest_worker():
    """A job that is expected to need more than any worker has gets all that the largest for it has."""
    made = pool(seat("a"), seat("b", memory_bytes=16 * GIB))
    assert made.need(Wish(GCC, 99 * GIB)) == 16 * GIB
    assert made.choose(Wish(GCC, 99 * GIB)) == "b"
    assert made.need(Wish(GCC, 99 * GIB, avoid=frozenset({ServerId("b")}))) == 8 * GIB


seats = st.builds(
    Seat,
    server_id=st.integers(0, 9).map(lambda number: ServerId(f"w{number}")),
    slots=st.integers(1, 4),
    memory_bytes=st.sampled_from([GIB, 8 * GIB]),
    booked=st.integers(0, 4),
    booked_bytes=st.sampled_from([0, GIB // 2, GIB]),
    grade=st.sampled_from(list(Grade)),
    blame=st.floats(-5, 5),
    other_load=st.floats(0, 8),
    short=st.booleans(),
    ready=st.booleans(),
)
names = st.integers(0, 9).map(lambda number: ServerId(f"w{number}"))
changes = st.lists(
    st.one_of(st.tuples(seats, st.frozensets(st.sampled_from([GCC, CLANG]))), names), min_size=1, max_size=40
)
wishes = st.builds(
    Wish,
    toolchain=st.sampled_from([GCC, CLANG]),
    expected_bytes=st.sampled_from([0, GIB // 2, 4 * GIB, 99 * GIB]),
    avoid=st.frozensets(names, max_size=3),
)


@given(changes=changes, wishes=st.lists(wishes, min_size=1, max_size=5))
def test_the_index_chooses_what_a_scan_would(changes, wishes):
    """However workers came, changed and went, the choice equals the smallest rank among all that may be asked."""
    made = Pool()
    made.choose(wishes[0])
    for change in changes:
        if isinstance(change, str):
            made.drop(change)
        else:
            made.put(*change)
    for wish in wishes:
        able = [name for name in made.seats if made.admits(name, wish)]
        # The rank has the exact load in it only where the steps and faults are equal, as the index does.
        assert made.choose(wish) == min(able, key=lambda name: made.rank(name, wish), default=None)


@given(moves=st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 3))), max_size=40))
def test_a_ladder_is_a_sorted_list(moves):
    """Whatever was put, moved and dropped, walking gives the members by key and name."""
    ladder, model = Ladder(), {}
    for number, key in moves:
        if key is None:
            ladder.drop(str(number))
            model.pop(str(number), None)
        else:
            ladder.put(str(number), (key,))
            model[str(number)] = (key,)
    assert list(ladder) == sorted(model, key=lambda name: (model[name], name))
    assert len(ladder) == len(model)


def test_a_slot_goes_to_the_client_with_the_fewest():
    """Between clients the one with fewest slots is served first, within a client the oldest request."""
    queue = FairQueue()
    busy, idle = ClientId("busy"), ClientId("idle")
    queue.add(Waiting(("busy-old",), busy, 1.0, 1), share=5)
    queue.add(Waiting(("idle-new",), idle, 9.0, 2), share=0)
    queue.add(Waiting(("idle-old",), idle, 5.0, 3), share=0)
    assert queue.first(anybody).key == ("idle-old",)
    queue.share_changed(idle, 6)
    assert queue.first(anybody).key == ("busy-old",)
    assert queue.first(lambda place: place.client_id == idle).key == ("idle-old",)
    assert [place.key for place in queue] == [("busy-old",), ("idle-old",), ("idle-new",)]


@given(
    moves=st.lists(
        st.tuples(st.sampled_from("arsx"), st.integers(0, 9), st.integers(0, 2), st.integers(0, 3)), max_size=60
    )
)
def test_the_queue_serves_by_share_and_age(moves):
    """Whoever is first has the fewest slots of all clients that wait, and is the oldest of its own client."""
    queue, waiting, shares = FairQueue(), {}, {0: 0, 1: 0, 2: 0}
    for serial, (what, key, client, number) in enumerate(moves):
        if what == "a" and key not in waiting:
            waiting[key] = Waiting((key,), ClientId(str(client)), float(number), serial, need=number)
            queue.add(waiting[key], shares[client])
        elif what == "r":
            queue.remove((key,))
            waiting.pop(key, None)
        elif what == "s":
            shares[client] = number
            queue.share_changed(ClientId(str(client)), number)
        assert len(queue) == len(waiting)
        assert queue.least_need == min((place.need for place in waiting.values()), default=0)
        first = queue.first(anybody)
        expected = min(
            waiting.values(),
            key=lambda place: (
                shares[int(place.client_id)],
                min((o.since, o.serial) for o in waiting.values() if o.client_id == place.client_id),
                place.since,
                place.serial,
            ),
            default=None,
        )
        assert first == expected


def test_silence_is_forgiven_when_heard_from():
    """A worker that did not answer is silent until it speaks, however long that takes."""
    silent = Standing(60.0).unanswered()
    assert silent.grade(1e9) is Grade.SILENT
    assert silent.heard().grade(0.0) is Grade.TRUSTED


def test_heartbeats_say_nothing_about_the_way_to_clients():
    """A worker that clients cannot reach stays suspect while it speaks to the scheduler, until one got a result."""
    unreachable = Standing(60.0).unreachable(0.0)
    assert unreachable.heard().grade(1.0) is Grade.UNREACHABLE
    assert unreachable.reached().grade(1.0) is Grade.TRUSTED
    assert unreachable.grade(61.0) is Grade.TRUSTED


@given(
    moments=st.lists(st.floats(0.01, 100), min_size=1, max_size=20),
    half_life=st.floats(1, 600),
    reports=st.booleans(),
)
def test_blame_halves_and_ends_when_it_says(moments, half_life, reports):
    """A grade improves by itself exactly at the moment that was foretold, and never gets worse by waiting."""
    standing, now = Standing(half_life), 0.0
    for moment in moments:
        now += moment
        standing = standing.unreachable(now) if reports else standing.failed(now)
    while (grade := standing.grade(now)) is not Grade.TRUSTED:
        better = standing.changes_at(now)
        assert now <= better < float("inf")
        assert standing.grade(max(now, better - half_life / 1000)) is grade
        assert standing.grade(better) < grade
        now = better
    assert standing.changes_at(now) == float("inf")


@given(
    one=st.lists(st.floats(0, 100), max_size=5),
    other=st.lists(st.floats(0, 100), max_size=5),
    later=st.floats(100, 300),
)
def test_blame_keeps_its_order_as_it_decays(one, other, later):
    """Whose faults weigh more is the same at every later moment, so an index by it never goes stale."""
    a, b = Standing(60.0), Standing(60.0)
    for moment in sorted(one):
        a = a.failed(moment)
    for moment in sorted(other):
        b = b.failed(moment)
    difference = a.recent_faults(later) - b.recent_faults(later)
    if abs(difference) > 1e-6:
        assert (a.faults.order(60.0) > b.faults.order(60.0)) is (difference > 0)
