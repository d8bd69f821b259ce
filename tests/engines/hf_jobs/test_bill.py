"""What a sweep has cost, while its jobs come and go."""

from rankviz.engines.hf_jobs.engine import HfJobs
from rankviz.engines.hf_jobs.papers import Papers, Rented
from rankviz.errors import EngineError

RENTED = Rented(account="alice", flavor="l4x1", usd_per_minute=0.01, timeout_seconds=600, sweep_id="s")


def test_a_bill_that_another_thread_asks_for_as_a_job_ends_has_no_error(store, logins, monkeypatch):
    engine = HfJobs(store, logins)
    folder = engine.papers.place / "r4-a1"
    (folder / "runs").mkdir(parents=True)
    (folder / "job.json").write_text('{"kind": "finetune", "attempts": ["r4@1"]}')
    engine.papers.write(folder, RENTED)
    read, reads = Papers.read, []

    def removed_at(number):
        def of(papers, folder):
            reads.append(folder)
            if len(reads) >= number:
                raise EngineError("gone")
            return read(papers, folder)

        return of

    for number in range(1, 6):
        reads.clear()
        monkeypatch.setattr(Papers, "read", removed_at(number))
        assert engine.bill(RENTED.sweep_id).jobs <= 1
