"""The law, under everything that can happen to a spool in any order: for every lane and every source

    read  =  delivered + rejected + dropped + waiting

The rows are counted by other SQL than the agent's, and a model knows which batch every lane has yet to see.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.batch import Logs, Position
from agent.contract import Held
from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import keeping
from agent.spool.bounds import LaneBound
from agent.spool.fetch import fetch
from agent.spool.positions_copy import encode, small_of, write_copy
from agent.spool.records import Group, Passed, Quarantined, Stored, Taken
from agent.spool.salvage import open_store, replace_store
from agent.spool.store import Store
from tests.spool import pages
from tests.spool.harm import spoil_page
from tests.spool.numbered import OPTIONS, TIME_NS, Routes, batch, configure, records_of, unbalanced

LANES = ("a/logs", "b/logs", "c/logs")
SOURCES = ("all", "ab", "only_b", "none", "udp")
ROUTES = Routes({"ab": ("a/logs", "b/logs"), "only_b": ("b/logs",)}, unwanted=frozenset({"none"}))
SMALL_BOUND = LaneBound(3_000, "drop_oldest")
LET_GO = {"spool_full", "aged", "retired", "skipped", "damaged"}

lanes = st.sampled_from(LANES)
sources = st.sampled_from(SOURCES)
few = st.integers(0, 4)


class Law(RuleBasedStateMachine):
    """One spool and what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="law"))
        self.life = 0
        self.state = self.root / "0"
        self.store = Store(self.state / "spool", OPTIONS)
        self.configured = LANES[:2]
        self.bounds: dict[str, LaneBound] = {}
        self.next: Counter[str] = Counter()
        self.held: list[Logs] = []
        self.waiting: dict[str, dict[int, int]] = {}
        self.acked: dict[str, int] = {}
        self.let_go: Counter[str] = Counter()
        self.last_id = 0
        self.damaged = False
        self._configure()

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    # What is known of the spool

    def _configure(self) -> None:
        configure(self.store, self.configured, ROUTES, self.bounds)
        self._rows_are_accounted_for()

    def _standing(self) -> dict[str, dict[int, int]]:
        """The rows each lane has yet to pass, with their records."""
        connection = self.store.connection
        members = {row[0]: row[1].split(",") for row in connection.execute("SELECT id, lanes FROM route")}
        rows = connection.execute("SELECT id, route, records FROM batch NOT INDEXED").fetchall()
        return {
            lane.name: {row: n for row, route, n in rows if row > lane.cursor and str(lane.id) in members[route]}
            for lane in self.store.lanes.values()
        }

    def _let_go(self) -> Counter[str]:
        """Records every lane has let go of itself, by name of the lane."""
        counts: Counter[str] = Counter()
        for (lane, _, outcome, reason), records in self.store.ledger.items():
            if outcome == "dropped" and reason in LET_GO:
                counts[self.store.lanes[lane].name] += records
        return counts

    def _rows_are_accounted_for(self, acked: Iterable[int] = (), lane: str = "", *, damaged: bool = False) -> None:
        """Whatever a lane had yet to see and now has not was acknowledged, or is counted as let go."""
        standing, gone = self._standing(), self._let_go()
        passed = set(acked)
        for name, rows in self.waiting.items():
            vanished = sum(n for row, n in rows.items() if row not in standing[name])
            vanished -= sum(
                n for row, n in rows.items() if name == lane and row in passed and row not in standing[name]
            )
            counted = gone[name] - self.let_go[name]
            if damaged:
                assert counted >= vanished, (name, counted, vanished)
            else:
                assert counted == vanished, (name, counted, vanished)
        for name, rows in standing.items():
            assert rows.keys() <= self.waiting.get(name, rows).keys(), "a lane sees what it was never given"
        assert self.store.next_id >= self.last_id, "an id would be used again"
        self.last_id = self.store.next_id
        self.waiting, self.let_go = standing, gone

    @invariant()
    def the_law_holds(self) -> None:
        assert unbalanced(self.store) == {}
        self.store.recount()
        for lane in self.store.lanes.values():
            rows = self.waiting.get(lane.name, {})
            assert self.store.waiting(lane.id).batches == len(rows)
            assert self.store.waiting(lane.id).bytes == self.store.waiting_bytes[lane.id]

    @invariant()
    def no_position_is_ahead_of_what_is_durable(self) -> None:
        for (source, _), value in self.store.positions.items():
            assert int(value) == self.next[source] - sum(each.count for each in self.held if each.source == source)

    # Intake

    def _commit(self, group: Group) -> None:
        row = self.store.next_id
        for each in (each for step in group.taken for each in step.batches):
            lanes = self.store.router((each.source, each.signal))
            for lane in lanes:
                self.waiting[self.store.lanes[lane].name][row] = each.count
            row += bool(lanes)
        self.store.commit(group)
        assert self.store.next_id == row

    @rule(
        source=sources, counts=st.lists(st.integers(1, 5), max_size=4), dropped=few, padding=st.sampled_from([0, 4000])
    )
    def takes_in(self, source: str, counts: list[int], dropped: int, padding: int) -> None:
        """A source reads; a processor drops some of it, and may make something of its own."""
        made = []
        if any(each.source == source for each in self.held):
            return
        for count in counts:
            made.append(batch(source, self.next[source], count, padding=padding, origin=source != "udp"))
            self.next[source] += count
        self.next[source] += dropped
        derived = [batch("process.count", self.next["process.count"], 2, origin=False)] if len(counts) == 3 else []
        self.next["process.count"] += 2 * len(derived)
        flow = (source, "logs")
        read = Counter({flow: sum(counts) + dropped})
        read.update({("process.count", "logs"): 2 * len(derived)})
        positions = [(source, _position(source, self.next[source]))] if source != "udp" else []
        step = Taken((*made, *derived), read, {(flow, "drop"): dropped} if dropped else {}, tuple(positions))
        self._commit(Group([step]))
        self._rows_are_accounted_for()

    @rule(source=st.sampled_from(["all", "ab", "none"]), count=st.integers(1, 5))
    def holds_back(self, source: str, count: int) -> None:
        """A processor keeps what it read to itself."""
        self.held.append(batch(source, self.next[source], count))
        self.next[source] += count
        self._commit(Group([Taken(read={(source, "logs"): count}, states={"window": self._window()})]))
        self._rows_are_accounted_for()

    def _window(self) -> Held | None:
        flows: Counter[tuple[str, str]] = Counter()
        for each in self.held:
            flows[each.source, each.signal] += each.count
        return Held(b"window", flows) if flows else None

    @precondition(lambda self: self.held)
    @rule(drops=st.booleans())
    def gives_back(self, drops: bool) -> None:
        """A processor hands on what it held, or drops it."""
        made, self.held = self.held, []
        counts: Counter[tuple[tuple[str, str], str]] = Counter()
        for each in made:
            counts[(each.source, each.signal), "window"] += each.count
        positions = tuple((each.source, _position(each.source, self.next[each.source])) for each in made)
        step = Taken(() if drops else tuple(made), {}, counts if drops else {}, positions, {"window": None})
        self._commit(Group([step]))
        self._rows_are_accounted_for()

    # The lanes

    @rule(lane=lanes, most=st.integers(1, 6), rejected=few, dropped=few, quarantines=st.booleans())
    def acknowledges(self, lane: str, most: int, rejected: int, dropped: int, quarantines: bool) -> None:
        """A lane gets what comes next for it, in order, and says what became of it."""
        if lane not in self.configured:
            return
        lane_id = next(each.id for each in self.store.lanes.values() if each.name == lane)
        found = self._fetch(lane_id)
        assert [each.row.id for each in found] == sorted(self.waiting[lane])[: len(found)]
        assert bool(found) == bool(self.waiting[lane])
        done = found[:most]
        if not done:
            return
        for each in done:
            if each.batch is None:
                assert self.damaged
                assert each.row.origin is not None
            else:
                records_of(each)
        passed = [Passed(each.row.id, each.row.source, each.row.records) for each in done]
        last = passed[-1]
        passed[-1] = Passed(last.id, last.source, last.records, {"poison": rejected}, {"stale": dropped})
        refused = [Quarantined(lane_id, "poison", "no", batch("all", 0, 3, padding=900))] if quarantines else []
        self._commit(Group(acks={lane_id: passed}, quarantined=refused))
        self._rows_are_accounted_for([each.id for each in passed], lane)

    def _fetch(self, lane_id: int) -> list[Stored]:
        with self.store.reading() as connection:
            return fetch(connection, lane_id, self.store.lanes[lane_id].cursor, 1 << 20)

    @rule(lane=lanes, last=st.integers(0, 40))
    def acknowledges_what_is_gone(self, lane: str, last: int) -> None:
        """An answer for batches that were let go meanwhile changes nothing."""
        for each in self.store.lanes.values():
            if each.name == lane and each.cursor:
                self._commit(Group(acks={each.id: [Passed(max(1, each.cursor - last), "all", 3)]}))
        self._rows_are_accounted_for()

    @rule(lane=lanes, bound=st.sampled_from([LaneBound(), SMALL_BOUND, LaneBound(3_000), LaneBound(3_000, "block")]))
    def is_bounded(self, lane: str, bound: LaneBound) -> None:
        """The configuration bounds a lane; ``drop_oldest`` takes effect with the next commit."""
        self.bounds[lane] = bound
        self._configure()
        self._commit(Group())
        self._rows_are_accounted_for()
        for each in self.store.lanes.values():
            if each.name == lane and bound is SMALL_BOUND and lane in self.configured:
                assert self.store.waiting_bytes[each.id] <= bound.max_bytes

    @rule(names=st.sets(lanes, min_size=1))
    def is_configured(self, names: set[str]) -> None:
        """Lanes come, go and come back; one that is new starts from now."""
        self.configured = tuple(sorted(names))
        known = {lane.name for lane in self.store.lanes.values()}
        self._configure()
        assert all(not self.waiting[name] for name in names - known)

    @rule()
    def retires(self) -> None:
        """Lanes that have left let go of everything."""
        keeping.retire_orphans(self.store, TIME_NS + 1)
        self._rows_are_accounted_for()
        assert not any(self.waiting[each.name] for each in self.store.lanes.values() if each.orphaned_ns is not None)

    @rule(upto=st.integers(0, 30))
    def ages(self, upto: int) -> None:
        """Old records go."""
        keeping.let_age(self.store, TIME_NS + 500_000_000 + upto)
        self._rows_are_accounted_for()

    # The file

    @rule()
    def is_swept(self) -> None:
        self.store.sweep(keeping.SWEEPS)
        self._rows_are_accounted_for()
        (rows,) = self.store.connection.execute("SELECT count(*) FROM batch").fetchone()
        assert rows == len({row for rows in self.waiting.values() for row in rows})

    @rule()
    def is_copied(self) -> None:
        write_copy(self.state / "positions.copy", encode(small_of(self.store)))

    @rule()
    def cannot_commit(self) -> None:
        """A commit that finds no room leaves no trace, in the file or in memory."""
        connection = self.store.connection
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the file's size instead
        large = batch("all", self.next["all"], 400, padding=8000)
        step = Taken((large,), {("all", "logs"): 400}, {}, (("all", _position("all", 7)),), {"window": None})
        with pytest.raises(SpoolFull):
            self.store.commit(Group([step]))
        connection.execute("PRAGMA max_page_count = 1073741823")
        self._rows_are_accounted_for()

    @rule(clean=st.booleans())
    def starts_again(self, clean: bool) -> None:
        """It is closed and opened, or killed: then all of its files are as they were at that moment."""
        self._reopened(clean=clean)
        self._configure()

    def _reopened(self, *, clean: bool) -> None:
        self.life += 1
        state = self.root / str(self.life)
        if clean:
            self.store.close()
        shutil.copytree(self.state, state)
        if not clean:
            self.store.close()
        self.state = state
        self.store, report = open_store(state / "spool", state / "positions.copy", OPTIONS, TIME_NS)
        assert report is None

    @rule()
    def is_replaced(self) -> None:
        """Nothing is damaged, and all of it is taken over."""
        known = small_of(self.store)
        self.store.close()
        self.store, report = replace_store(
            self.state / "spool", self.state / "positions.copy", OPTIONS, TIME_NS, "asked", known
        )
        assert not report.lost_records
        self._configure()

    @rule(seed=st.integers(0, 1000), killed=st.booleans())
    def is_damaged(self, seed: int, killed: bool) -> None:
        """A page of the table of batches or payloads is damaged while it is in use; memory knows the rest."""
        known = small_of(self.store)
        if killed:
            self._reopened(clean=False)
        self.store.close()
        path = self.state / "spool" / "spool.db"
        kinds = pages.kinds(path)
        there = [page for kind, found in kinds.items() for page in found if kind.startswith(("batch", "payload"))]
        spoil_page(path, random.Random(seed).choice(there), seed)
        try:
            self.store, report = replace_store(
                self.state / "spool", self.state / "positions.copy", OPTIONS, TIME_NS, "damaged", known
            )
        except SpoolDamaged as error:
            raise AssertionError(error) from error
        assert report.positions_from == "memory"
        self.damaged = True
        configure(self.store, self.configured, ROUTES, self.bounds)
        self._rows_are_accounted_for(damaged=True)


def _position(source: str, number: int) -> Position:
    return Position(source, str(number))


Law.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLaw = Law.TestCase
