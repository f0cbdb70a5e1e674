"""Cells of a sweep in other processes and on a cluster: the same bits, nothing lost."""

import contextlib
import functools
import importlib
import math
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import at_work
import jax
import pytest
from test_experiment import assert_same_runs, spec
from widthlab import activations
from widthlab.runs import shipping
from widthlab.runs.archive import Archive
from widthlab.runs.cells import cells
from widthlab.runs.executors import Budget, LostWorkersError, Processes, completed
from widthlab.runs.provenance import code_version
from widthlab.runs.store import Store
from widthlab.runs.sweep import OtherCodeError, _run_elsewhere, sweep

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

# Two shapes, with runs enough for several cells each.
GRID = [spec(width=width, seed=seed) for width in (11, 12) for seed in range(5)]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return sweep(GRID, Store(tmp_path_factory.mktemp("serial")))


@pytest.fixture(scope="module")
def workers():
    with Processes(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def spawned():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, silence_logs=50) as made,
        distributed.Client(made) as client,
    ):
        yield client


# --- equal results ------------------------------------------------------------


@pytest.mark.parametrize("where", ["workers", "cluster"])
@pytest.mark.parametrize("together", [2, 16])
def test_the_same_bits_wherever_they_run(where, together, request, serial, tmp_path):
    executor = request.getfixturevalue(where)
    store = Store(tmp_path)
    found = sweep(GRID, store, executor=executor, together=together)
    assert_same_runs(found, serial)
    assert set(store.keys()) == {one.key for one in GRID}


def test_any_pool_of_the_standard_library(serial, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        found = sweep(GRID[:2], Store(tmp_path), executor=pool)
    assert_same_runs(found, serial[:2])


def test_a_worker_without_a_plugin_s_module_says_so(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def softer(x):\n    return x / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    activations.register("softer", importlib.import_module("only_here").softer)
    call = shipping.packed(abs, 1)
    monkeypatch.undo()
    del sys.modules["only_here"]
    with pytest.raises(ModuleNotFoundError, match="worker has no module only_here"):
        shipping.run_packed(call)


def test_what_is_no_executor_is_refused():
    with pytest.raises(TypeError, match=r"executor is a int; give None"):
        list(completed(abs, [1], 3))


def test_a_worker_with_other_source_is_refused():
    assert code_version() != "0" * 64
    with pytest.raises(OtherCodeError, match="install the same version on both"):
        _run_elsewhere(("0" * 64, None), {}, Budget.of(math.inf), [GRID[0]])


# --- forks ------------------------------------------------------------


def test_a_pool_of_forks_is_refused(spawned, tmp_path):
    """Before any of them is started; spawned ones are as good as any."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        with pytest.raises(ValueError, match=r"forks .*get_context\('spawn'\)"):
            sweep(GRID[:1], Store(tmp_path), executor=pool)
        assert not pool._processes
    assert list(completed(abs, [-1], spawned)) == [1]


def test_a_fork_of_a_process_that_used_jax_says_so(monkeypatch):
    """As a worker of whatever executor: it is known by itself, not by its pool."""
    call = shipping.packed(abs, -1)
    jax.devices()
    assert shipping._in_use()
    assert shipping.unpacked(shipping.run_packed(call)) == 1
    monkeypatch.setattr(shipping, "_FORKED", False)  # and back again
    shipping._note_fork()
    with pytest.raises(RuntimeError, match="fork of a process that has used JAX"):
        shipping.run_packed(call)


def test_a_process_that_has_not_used_jax_knows_it():
    code = "from widthlab.runs import shipping; print(shipping._in_use())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# --- clocks ------------------------------------------------------------


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_worker_s_clock_does_not_matter(hours, spawned, tmp_path):
    spawned.submit(at_work.other_clock, hours).result()
    ahead = spawned.submit(at_work.hour).result() - time.time() / 3600
    assert ahead == pytest.approx(hours, abs=0.5)
    archive = Archive(tmp_path)
    assert archive.run(GRID[:1], executor=spawned, minutes=30) == 1
    assert archive.run(GRID[1:2], executor=spawned, minutes=-1) == 0


@pytest.mark.parametrize("where", [None, "workers"])
def test_no_cell_begins_after_its_time(where, request):
    executor = where and request.getfixturevalue(where)
    list(completed(abs, [1, 2], executor))  # workers are there
    done = list(completed(at_work.slow, range(40), executor, seconds=1.0))
    assert 0 < len(done) < 40
    assert list(completed(at_work.slow, range(4), executor, seconds=0.0)) == []


def test_a_duration_is_measured_where_it_is_used():
    budget = Budget.of(0.2)
    sent = pickle.loads(pickle.dumps(budget))
    assert not budget.is_over()
    time.sleep(0.3)
    assert budget.is_over()
    assert sent.is_over()  # the same process
    assert not Budget("another process's", 0.2).is_over()
    assert not Budget.of(math.inf).is_over() and Budget.of(-math.inf).is_over()


# --- cells ------------------------------------------------------------


def test_cells_hold_every_run_once_and_share_a_program():
    for together in (1, 2, 3, 16):
        cut = list(cells(GRID, together))
        runs = [one for cell in cut for one in cell if one is not None]
        assert sorted(runs, key=GRID.index) == GRID
        for cell in cut:
            assert len(cell) <= together
            assert len({one.program for one in cell if one is not None}) == 1
    assert [len(cell) for cell in cells(GRID, 16, fill_up=True)] == [8, 8]
    with pytest.raises(ValueError, match="together is 0; it must be an integer from 1"):
        list(cells(GRID, 0))


# --- workers that die ------------------------------------------------------------


@pytest.mark.parametrize("where", ["workers", "cluster"])
def test_a_killed_worker_loses_only_its_cell(where, request, tmp_path):
    executor = request.getfixturevalue(where)
    work = functools.partial(at_work.die_once, tmp_path)
    assert sorted(completed(work, range(6), executor)) == list(range(6))
    times = [len(list(tmp_path.glob(f"{cell}-*"))) for cell in range(6)]
    assert times[1] == 2 and sum(times) <= 8  # the other one may have been waiting


def test_a_cell_that_kills_every_worker_is_given_up():
    with (
        Processes(1) as pool,
        pytest.raises(LostWorkersError, match="3 workers died over the same cell"),
    ):
        list(completed(at_work.die, [0], pool))


def test_a_script_without_a_guard_is_told_so(tmp_path):
    """Each worker imports it, begins workers of its own, and dies of that."""
    lines = ["import math", "from widthlab.runs.executors import Processes"]
    lines += ["with Processes(1) as pool:", "    pool.submit(math.sqrt, 4.0).result()"]
    script = tmp_path / "unguarded.py"
    script.write_text("\n".join(lines))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    *_, last = [line for line in done.stderr.splitlines() if "LostWorkers" in line]
    assert "as they started" in last and "__main__" in last and "memory" not in last


def test_a_worker_killed_in_a_sweep(serial, tmp_path):
    """The sweep itself: a worker is killed while it trains, and all runs come."""
    with Processes(2) as pool:
        pids = [pool.submit(os.getpid).result() for _ in range(2)]
        with ThreadPoolExecutor(1) as background:
            going = background.submit(
                sweep, GRID, Store(tmp_path), executor=pool, together=2
            )
            time.sleep(1.0)
            os.kill(pids[0], signal.SIGKILL)
            assert_same_runs(going.result(timeout=120), serial)


SCHEDULER = """
import sys
from distributed.cli.dask_scheduler import main
main(["--host", "127.0.0.1", "--port", "0", "--no-dashboard",
      "--scheduler-file", sys.argv[1]])
"""


def test_a_lost_scheduler_ends_the_sweep_and_a_rerun_goes_on(serial, tmp_path):
    file, log = tmp_path / "scheduler.json", tmp_path / "log"
    store = Store(tmp_path / "records")

    def wait_until(reached):
        deadline = time.monotonic() + 300  # on busy cores
        while not reached():
            assert all(one.poll() is None for one in started), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    with log.open("w") as said, contextlib.ExitStack() as stack:
        started = []
        for command in (
            ("-c", SCHEDULER, str(file)),
            (
                *("-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)),
                *("--host", "127.0.0.1", "--nthreads", "1", "--no-nanny"),
                *("--no-dashboard", "--local-directory", str(tmp_path)),
            ),
        ):
            started.append(subprocess.Popen([sys.executable, *command], stderr=said))
            stack.callback(started[-1].wait)
            stack.callback(started[-1].kill)
            wait_until(file.exists)
        client = stack.enter_context(
            distributed.Client(scheduler_file=str(file), timeout=120)
        )
        client.wait_for_workers(1, timeout=120)
        background = stack.enter_context(ThreadPoolExecutor(1))
        going = background.submit(
            sweep, GRID, store, executor=client, together=1, progress=False
        )
        wait_until(lambda: store.keys() or going.done())
        # How long a client looks for a scheduler that has gone.
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": 2}))
        started[0].kill()
        with pytest.raises(LostWorkersError, match="scheduler is gone"):
            going.result(timeout=60)
    assert 0 < len(store.keys()) < len(GRID)
    assert_same_runs(sweep(GRID, store), serial)


# --- the page about it ------------------------------------------------------------


def snippets():
    page = Path(__file__).parents[1] / "library" / "scale.md"
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_snippet_with_workers_runs_as_a_script(tmp_path):
    (text,) = [t for t in snippets() if "Processes(2)" in t]
    script = tmp_path / "script.py"
    script.write_text(
        text.replace("steps=200", "steps=2") + "    print(len(records))\n"
    )
    env = os.environ | {"WIDTHLAB_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, str(script)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "24"


def test_the_snippet_that_reads_results_runs(monkeypatch, capsys):
    (text,) = [t for t in snippets() if "read_parquet" in t]
    monkeypatch.chdir(Path(__file__).parents[1])
    exec(text, {})
    assert "run" in capsys.readouterr().out


def test_the_slurm_snippet_makes_a_job_of_one_gpu(monkeypatch):
    """As far as it goes without SLURM: the job script."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    (text,) = [t for t in snippets() if "SLURMCluster" in t]
    (call,) = re.findall(r"cluster = SLURMCluster\(\n(.*?)\n\)\n", text, re.DOTALL)
    options = {"scheduler_options": {"dashboard_address": ":0"}}
    names = {"make": jobqueue.SLURMCluster, "options": options}
    with eval(f"make(**options, {call})", names) as cluster:
        script = cluster.job_script()
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A my-project",
        "#SBATCH --gres=gpu:1",
        "#SBATCH -t 04:00:00",
        "export JAX_COMPILATION_CACHE_DIR=$HOME/.cache/jax",
    ):
        assert line in script
    assert "--nthreads 1" in script and "--lifetime 230m" in script
