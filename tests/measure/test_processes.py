"""Worker processes that answer, fail, die, hang or talk nonsense: the parent says so, and none is left."""

import json
import os
import signal
import sys
import tempfile
import time

import pytest

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import Job, Stored, from_wire, run_processes, to_wire

JOB = Job({"fp32": b"weights", "int8": b"fewer"}, (1, 3, 8, 8), 1)
TIMES = ProcessTimes({"int8": Pairs((2.0, 3.0), (1.0, 1.5), (True, False))}, Load(0.1, None), 3, 0.5, 80.0)

WORKER = """
import json, os, sys, time
open({log!r}, "a").write(str(os.getpid()) + "\\n")
job = json.loads(sys.stdin.readline())
def say(value):
    print(json.dumps(value) if not isinstance(value, str) else value, flush=True)
times = {times!r}
"""


@pytest.fixture
def crew(tmp_path):
    """worker(body) -> command whose process runs `body`; pids() -> those that were started."""
    log = tmp_path / "pids"

    class Crew:
        def worker(self, body):
            return sys.executable, "-c", WORKER.format(log=str(log), times=json.dumps(to_wire(TIMES))) + body

        def pids(self):
            return [int(line) for line in log.read_text().split()]

        def left(self):
            return [pid for pid in self.pids() if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110

    return Crew()


GOOD = """
say({"ready": True})
assert sys.stdin.readline() == "go\\n"
say({"times": json.loads(times)})
time.sleep(60)
"""


def test_what_is_measured_arrives_as_it_was(crew):
    found = list(run_processes(JOB, [1, 2, 3], at_once=2, command=crew.worker(GOOD)))
    assert found == [TIMES] * 3
    assert len(set(crew.pids())) == 3
    assert crew.left() == []


def test_times_survive_the_wire():
    assert from_wire(json.loads(json.dumps(to_wire(TIMES)))) == TIMES


def test_the_job_names_files_that_hold_the_models(crew):
    body = """
contents = {name: open(path, "rb").read().decode() for name, path in job.pop("files").items()}
print(contents, job, file=sys.stderr); say({"error": {"message": str(contents) + str(job)}})
"""
    with pytest.raises(MeasurementError) as caught:
        list(run_processes(JOB, [7], command=crew.worker(body)))
    assert "{'fp32': 'weights', 'int8': 'fewer'}" in str(caught.value)
    assert "'shape': [1, 3, 8, 8], 'threads': 1, 'seed': 7" in str(caught.value)


def test_a_stored_model_serves_several_runs_and_is_gone_afterwards(crew, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stored = Stored([b"wei", memoryview(b"ghts")])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("pytest-ptq-")], "it has no name"
    body = """
say({"error": {"message": str({n: open(path).read() for n, path in job["files"].items()})}})
"""
    for _ in range(2):
        with pytest.raises(MeasurementError, match=r"{'fp32': 'weights', 'int8': 'fewer'}"):
            list(run_processes(Job({"fp32": stored, "int8": b"fewer"}, (1,), 1), [7], command=crew.worker(body)))
    descriptor = stored.fileno()
    del stored
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_full_disk_is_one_sentence():
    class Full:
        def writelines(self, parts):
            raise OSError(28, "No space left on device")

        def close(self):
            closed.append(self)

    closed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda prefix: Full())
        with pytest.raises(MeasurementError, match=r"No space left on device. Is there room in .*TMPDIR"):
            Stored([b"weights"])
    assert len(closed) == 1


def test_only_one_is_told_to_go_at_a_time(crew, tmp_path):
    busy = tmp_path / "busy"
    body = f"""
say({{"ready": True}})
sys.stdin.readline()
os.close(os.open({str(busy)!r}, os.O_CREAT | os.O_EXCL)); time.sleep(0.05); os.unlink({str(busy)!r})
say({{"times": json.loads(times)}})
"""
    assert len(list(run_processes(JOB, range(4), at_once=4, command=crew.worker(body)))) == 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "say({'error': {'message': 'no kernel', 'place': 'latency', 'remedy': 'Buy one.'}})",
            "latency: no kernel. Buy",
        ),
        (
            "print('a trace', file=sys.stderr); print('Illegal thing', file=sys.stderr); sys.exit(3)",
            "3 (Illegal thing)",
        ),
        ("os.kill(os.getpid(), 9)", "ended with status -9. Was it killed for want of memory?"),
        ("say('hello')", "ended with status 0"),
        ("say({'ready': True}); sys.stdin.readline(); os.kill(os.getpid(), 11)", "ended with status -11"),
    ],
)
def test_a_process_that_fails_is_one_sentence(crew, body, said):
    with pytest.raises(MeasurementError) as caught:
        list(run_processes(JOB, [1, 2], at_once=2, command=crew.worker(body)))
    assert said in str(caught.value).replace("measurement: ", "")
    assert "\n" not in str(caught.value)
    assert crew.left() == []


@pytest.mark.parametrize(
    "body",
    ["time.sleep(60)", "say({'ready': True}); time.sleep(60)", "print('half', end='', flush=True); time.sleep(60)"],
)
def test_a_process_that_hangs_is_killed(crew, body):
    started = time.monotonic()
    with pytest.raises(MeasurementError, match="gave no answer for 1 s"):
        list(run_processes(JOB, [1, 2], at_once=2, command=crew.worker(body), timeout_s=1.0))
    assert time.monotonic() - started < 30
    assert crew.left() == []


def test_an_interrupt_while_waiting_leaves_no_process(crew):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            list(run_processes(JOB, [1, 2], at_once=2, command=crew.worker("time.sleep(60)")))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert crew.left() == []


def test_whoever_stops_listening_leaves_no_process(crew):
    measured = run_processes(JOB, range(4), at_once=2, command=crew.worker(GOOD))
    next(measured)
    measured.close()
    assert len(crew.pids()) == 2
    assert crew.left() == []


def test_no_file_is_left(crew, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    list(run_processes(JOB, [1], command=crew.worker(GOOD)))
    assert list(folder.iterdir()) == []
