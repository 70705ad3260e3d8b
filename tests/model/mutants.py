"""Seeded faults of the engine, each of which the model has to find."""

from dataclasses import replace

from msgspec import structs
from sqlalchemy import select

from statejobs.record import written as beside
from statejobs.runner import keeper, settling, steps
from statejobs.store.engines.lazy_begin import begin_now
from statejobs.store.enqueue import enqueue
from statejobs.store.tables import jobs
from statejobs.values.outcome import Snooze
from statejobs.work.records import work
from statejobs.work.records.work import RecordWork
from tests.model.driver import Driver


def a_finish_without_the_token(patch):
    """Whoever comes late settles the job of the present holder."""
    real = steps.finish_job

    def finish(connection, job, settlement, **options):
        now = connection.execute(select(jobs).where(jobs.c.id == job.id)).one()
        held = structs.replace(job, token=now.token, attempt=now.attempt)
        return real(connection, held, settlement, **options)

    patch.setattr(steps, "finish_job", finish)


def a_rescue_that_forgets_the_record(patch):
    real = RecordWork.move_of

    def move_of(self, claim, landing, **options):
        is_rescue = claim.began == 0  # nothing began here
        return None if is_rescue else real(self, claim, landing, **options)

    patch.setattr(RecordWork, "move_of", move_of)


def an_enqueue_that_survives_a_rollback(patch):
    written, real = [], Driver.transaction

    def note(connection, new, **options):
        written.extend(new)
        return enqueue(connection, new, **options)

    def transaction(self, play, *, is_kept):
        written.clear()
        real(self, play, is_kept=is_kept)
        if written and not is_kept:
            with self.app.store.transaction() as connection:
                enqueue(
                    connection, list({job.dedupe_key: job for job in written}.values())
                )

    patch.setattr(beside, "enqueue", note)
    patch.setattr(Driver, "transaction", transaction)


def a_snooze_that_spends_an_attempt(patch):
    real = settling.settle

    def settle(job, outcome, **options):
        settled = real(job, outcome, **options)
        return (
            replace(settled, attempt=job.attempt)
            if isinstance(outcome, Snooze)
            else settled
        )

    patch.setattr(settling, "settle", settle)


def a_crash_that_is_not_counted(patch):
    real = settling.settle

    def settle(job, outcome, **options):
        settled = real(job, outcome, **options)
        return replace(settled, crashes=job.crashes)

    patch.setattr(settling, "settle", settle)


def a_cancel_that_a_rescue_forgets(patch):
    patch.setattr(steps, "find_cancel_request", lambda *_: None)


def a_heartbeat_that_renews_nothing(patch):
    patch.setattr(keeper, "renew_leases", lambda *_, **__: [])


def a_claim_without_history(patch):
    patch.setattr(work, "write_claims", lambda *_: None)


def a_finish_that_commits_the_record_first(patch):
    """Who dies in between has moved the record, and not ended the job."""
    real = steps.land

    def land(connection, move):
        has_landed = real(connection, move)
        connection.commit()
        begin_now(connection)
        return has_landed

    patch.setattr(steps, "land", land)


MUTANTS = [
    a_finish_without_the_token,
    a_rescue_that_forgets_the_record,
    an_enqueue_that_survives_a_rollback,
    a_snooze_that_spends_an_attempt,
    a_crash_that_is_not_counted,
    a_cancel_that_a_rescue_forgets,
    a_heartbeat_that_renews_nothing,
    a_claim_without_history,
    a_finish_that_commits_the_record_first,
]
