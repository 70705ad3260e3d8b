"""What may happen, in any order: each rule does it to the engine and to the model."""

from datetime import timedelta
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from statejobs.runner.crash_points import CrashPoint
from statejobs.values.suspects import runs_alone
from tests.model.driver import Driver, Item
from tests.model.model import MOST_CRASHES, TRANSITIONS, WAITING, Model

KEYS = (1, 2)
OUTCOMES = ("complete", "fail", "snooze", "cancel", "stale")
P = CrashPoint
CLAIMING = (P.CLAIM_BEFORE_COMMIT, P.CLAIMED)
RUNNING = (
    P.BODY_RETURNED,
    P.FINISH_FLUSHED,
    P.FINISH_RECORD_MOVED,
    P.FINISH_BEFORE_COMMIT,
    P.FINISHED,
)

keys = st.sampled_from(KEYS)
nodes = st.integers(0, 1)
picks = st.integers(0, 5)
outcomes = st.sampled_from(OUTCOMES) | st.just("complete")
# what is possible then; whether it is flushed
step = st.tuples(keys, picks, st.booleans())
savepoint = st.tuples(st.lists(step, max_size=3), st.booleans())
story = st.lists(step | savepoint, min_size=1, max_size=4)


def holds(machine):
    """Whether a node holds a job."""
    return any(node.claims for node in machine.driver.nodes)


def has_queued(machine):
    return bool(machine.model.queued())


def is_suspect(one):
    """Whether a worker died while it held the job of a claim, or of what it ended as."""
    return one.job.is_suspect


def is_alone(one):
    return runs_alone(one.job, next_attempt=one.job.attempt, max_crashes=MOST_CRASHES)


def machine(engine):  # noqa: C901 - the rules are one class, made for a database
    """Return the rules, bound to a database with the tables."""

    class EngineAgainstModel(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.driver, self.model = Driver(engine), Model()

        @initialize()
        def begin(self):
            for key in KEYS:
                self.driver.create(key)
                self.model.create(key)
                self.fire(key, 0)

        # Users

        @rule(key=keys, pick=picks)
        def fire(self, key, pick):
            self.transaction([(key, pick, False)], is_kept=True)

        @rule(story=story, is_kept=st.booleans())
        def transaction(self, story, is_kept):
            before = self.model.copy()
            self.driver.transaction(lambda s: self.play(s, story), is_kept=is_kept)
            self.model.flush() if is_kept else self.model.restore(before)

        def play(self, session, story):
            for part in story:
                if len(part) == 3:
                    self.take_step(session, *part)
                    continue
                inner, is_kept = part
                nested = session.begin_nested()
                self.model.flush()
                before = self.model.copy()
                self.play(session, inner)
                nested.commit() if is_kept else nested.rollback()
                self.model.flush() if is_kept else self.model.restore(before)

        def take_step(self, session, key, pick, is_flushed):
            with session.no_autoflush:  # only the story says when it flushes
                item = session.get_one(Item, key)
            possible = self.model.possible(key)
            name = possible[pick % len(possible)]
            if name in TRANSITIONS:
                getattr(item, name)()
                self.model.fire(key, name)
            else:
                delay = 60 if name == "enqueue later" else 0
                Item.do_it.options(delay=timedelta(seconds=delay)).enqueue(
                    session, item
                )
                self.model.flush()
                self.model.enqueue(self.model.records[key], delay)
            if is_flushed:
                session.flush()
                self.model.flush()

        @precondition(lambda self: self.model.with_job())
        @rule(pick=picks)
        def cancel_by_hand(self, pick):
            key = self.model.with_job(pick)
            assert self.driver.cancel(key) == self.model.cancel(key)

        @precondition(lambda self: self.model.with_job())
        @rule(pick=picks)
        def retry_by_hand(self, pick):
            key = self.model.with_job(pick)
            assert self.driver.retry(key) == self.model.retry(key)

        # Time

        @rule(seconds=st.sampled_from([1, 12, 31]))
        def pass_time(self, seconds):
            self.driver.clock.advance(seconds=seconds)
            self.model.now += seconds

        @rule(after=st.sampled_from([0, 20, 60, 300]))
        def stage(self, after):
            self.pass_time(after)
            self.driver.stage_due()
            self.model.stage()

        # Nodes

        @precondition(has_queued)
        @rule(number=nodes, limit=st.integers(1, 3))
        def claim(self, number, limit):
            queued, suspects = self.model.queued(), self.model.suspects()
            claims = self.driver.claim(self.driver.nodes[number], limit)
            self.agree_on_number(claims, limit, queued, suspects)
            for claim in claims:
                self.model.claim(self.record_of(claim), claim.job.token)

        def agree_on_number(self, claimed, limit, queued, suspects):
            """All that fit are claimed, but not those whose worker died and that run alone."""
            kept_apart = max(0, len(suspects) - 1)
            assert not any(map(is_alone, claimed)) or sum(map(is_suspect, claimed)) == 1
            assert (
                min(limit, len(queued)) - kept_apart
                <= len(claimed)
                <= min(limit, len(queued))
            )
            assert claimed or not queued

        @precondition(holds)
        @rule(pick=picks, outcome=outcomes, writes=st.booleans())
        def run(self, pick, outcome, writes):
            node, claim = self.take(pick)
            ended = self.driver.run(node, claim, outcome, writes=writes)
            self.finish(claim, outcome, ended, writes=writes)

        @precondition(holds)
        @rule(pick=picks)
        def release(self, pick):
            node, claim = self.take(pick)
            self.finish(claim, "release", self.driver.release(node, claim))

        @precondition(has_queued)
        @rule(n=st.integers(1, 3), outcome=outcomes)
        def step(self, n, outcome):
            ended = self.driver.step(n, outcome)
            self.agree_on_number(ended, n, self.model.queued(), self.model.suspects())
            for one in ended:
                self.model.claim(self.record_of(one), one.job.token)
            for one in ended:
                self.finish(one, outcome, one)

        @precondition(holds)
        @rule(number=nodes)
        def beat(self, number):
            self.driver.nodes[number].keeper.run_once()
            for claim in self.driver.nodes[number].claims:
                self.model.beat(self.record_of(claim), claim.job.token)

        @rule(number=nodes, after=st.sampled_from([0, 20, 31]))
        def rescue(self, number, after):
            self.pass_time(after)
            assert self.driver.nodes[number].runner.rescue() == self.model.rescue()

        @precondition(holds)
        @rule(number=nodes)
        def take_over(self, number):
            """The other node is paused past its leases; it holds its claims still."""
            self.rescue(number, 31)
            self.claim(number, len(KEYS))

        @precondition(holds)
        @rule(number=nodes, outcome=outcomes, writes=st.booleans())
        def come_late(self, number, outcome, writes):
            """The other node wakes from that pause, and ends what it holds."""
            self.take_over(number)
            sleeper = self.driver.nodes[1 - number]
            for claim in list(sleeper.claims):
                ended = self.driver.run(sleeper, claim, outcome, writes=writes)
                self.finish(claim, outcome, ended, writes=writes)

        # Deaths

        @precondition(
            lambda machine: has_queued(machine) and len(machine.model.suspects()) <= 1
        )
        @rule(number=nodes, point=st.sampled_from(CLAIMING))
        def die_claiming(self, number, point):
            node, queued = self.driver.nodes[number], self.model.queued()
            died = self.driver.dies(
                node, point, partial(self.driver.claim, node, len(KEYS))
            )
            assert died
            if point is P.CLAIMED:
                for key in queued:
                    self.model.claim(self.model.records[key], f"orphan of {number}")

        @precondition(holds)
        @rule(
            pick=picks,
            point=st.sampled_from(RUNNING),
            outcome=outcomes,
            writes=st.booleans(),
        )
        def die_running(self, pick, point, outcome, writes):
            node, claim = self.take(pick)
            ended = []
            run = partial(self.driver.run, node, claim, outcome, writes=writes)
            died = self.driver.dies(node, point, lambda: ended.append(run()))
            if not died or point is P.FINISHED:
                self.finish(claim, outcome, *ended, writes=writes)

        @rule(number=nodes, after=st.sampled_from([0, 31]))
        def die_rescuing(self, number, after):
            self.pass_time(after)
            node, before = self.driver.nodes[number], self.model.copy()
            died = self.driver.dies(node, P.RESCUE_BEFORE_COMMIT, node.runner.rescue)
            assert died == bool(self.model.rescue())
            self.model.restore(before)

        def take(self, pick):
            """One of the claims that a node holds, with its node."""
            held = [
                (node, claim) for node in self.driver.nodes for claim in node.claims
            ]
            return held[pick % len(held)]

        def record_of(self, claim):
            return self.model.records[int(claim.job.record_id)]

        def finish(self, claim, outcome, ended=None, *, writes=False):
            record = self.record_of(claim)
            edge = self.model.finish(record, claim.job.token, outcome)
            assert ended is None or ended.outcome == edge
            if edge == "complete":
                record.runs += 1
                record.effects += writes

        # Agreement

        @precondition(lambda self: self.model.records)
        @invariant()
        def agree(self):
            assert self.driver.look() == self.model.look()

        @invariant()
        def no_record_waits_in_vain(self):
            for record in self.model.records.values():
                job = record.job
                waits = bool(job) and job.state in WAITING
                runs = bool(job) and job.state == "processing"
                is_stale = bool(job) and job.ended == "stale"
                assert (
                    record.state != "waiting"
                    or waits
                    or (runs and job.again)
                    or is_stale
                )
                assert record.state != "running" or runs
                assert not waits or record.state == "waiting"

    return EngineAgainstModel
