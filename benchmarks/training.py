"""Time the training engine against this machine's matrix products and PyTorch.

python benchmarks/training.py              all readings, about five minutes on two cores
python benchmarks/training.py --quick      three widths, short readings
python benchmarks/training.py --case integrable   one line only; --help lists the names
python benchmarks/training.py --layouts    the layouts that the engine chooses from

Every ratio comes from one process: repetitions of the two sides and of a large matrix
product alternate, and medians are compared. Compilation is timed apart. A repetition
waits until other processes leave the cores alone; those disturbed nevertheless are left
out where enough others remain, and counted.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from widthlab import parametrization, training
from widthlab.model import Scales, Shape
from widthlab.training import Data, Members, Optimizer, Plan

try:
    import torch
except ModuleNotFoundError:
    torch = None

WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
TRAIN_SIZE, INPUTS, CLASSES = 2048, 784, 10
LR = 1e-3
SQUARE = 2048
RATE_GUESS = 6e10  # operations per second, to choose how many steps a reading takes
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    width: int
    members: int = 1
    depth: int = 3
    batch: int = 64
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            members = f"-members{self.members}" if self.members > 1 else ""
            name = f"width{self.width}-depth{self.depth}-batch{self.batch}{members}"
            object.__setattr__(self, "name", name)

    @property
    def shape(self) -> Shape:
        return Shape(INPUTS, (self.width,) * self.depth, CLASSES, "tanh")

    def plan(self, steps: int) -> Plan:
        sgd = Optimizer("sgd")
        return Plan(self.shape, "cross-entropy", sgd, self.batch, steps, TRAIN_SIZE)

    def steps(self, seconds: float) -> int:
        """Steps of each member that take about so long."""
        work = self.shape.flops * self.batch * self.members
        return max(int(seconds * RATE_GUESS / work), 20 if self.members > 1 else 4)


@dataclass(frozen=True)
class Pulse:
    """A probe that makes a checkpoint wait for weights; `tag` separates programs."""

    tag: str = ""

    @property
    def name(self) -> str:
        return "pulse"

    def measure(self, model: Any, initial: Any, data: Data, loss: Any) -> Any:
        del initial, data, loss
        return model.layers[-1].kernel[...][0, 0]


@dataclass(frozen=True)
class Kernels:
    """A probe that returns all weights, to start both sides from the same ones."""

    name: str = "kernels"

    def measure(self, model: Any, initial: Any, data: Data, loss: Any) -> Any:
        del initial, data, loss
        return [layer.kernel[...] for layer in model.layers]


# The sizes in the experiments of Hajjar, Chizat and Giraud 2024 on integrable
# parametrizations: L = 6, m = 1024, B = 512.
INTEGRABLE = Case(1024, depth=6, batch=512, name="integrable")


def cases(widths: Sequence[int], quick: bool) -> list[Case]:
    """Single runs, sweeps of 32 members where they fit, and one deep network."""
    singles = [Case(w) for w in widths]
    sweeps = [Case(w, members_that_fit(w)) for w in widths if w <= 2048]
    return singles + sweeps + ([] if quick else [INTEGRABLE])


def members_that_fit(width: int) -> int:
    # 32 members of width 1024 hold 1.5 GB in weights, gradients and copies.
    return 32 if width <= 512 else 8 if width <= 1024 else 4


def make_data(size: int = TRAIN_SIZE) -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((size, INPUTS)).astype(np.float32) / np.sqrt(INPUTS)
    x = x.astype(np.float32)
    y = rng.integers(0, CLASSES, size).astype(np.int32)
    return Data(x, y, x[:2], y[:2])


def make_members(case: Case) -> Members:
    one = case.shape.scales(parametrization.get("sp"), lr=LR)
    n = case.members
    return Members(
        key=jnp.stack([jax.random.key(seed) for seed in range(n)]),
        scales=Scales(*(np.stack([column] * n) for column in one)),
        stop_below=np.full(n, -np.inf, np.float32),
        real=np.ones(n, bool),
    )


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Torch:
    """The loop that one would write in PyTorch, one member after another."""

    def __init__(self, case: Case, data: Data, kernels: Sequence[Any] | None = None):
        self.batch, self.position, self.losses = case.batch, 0, []
        self.x = torch.from_numpy(np.asarray(data.x_train))
        self.y = torch.from_numpy(np.asarray(data.y_train)).long()
        self.models = [self.model(case.shape) for _ in range(case.members)]
        if kernels is not None:
            linear = [m for m in self.models[0] if isinstance(m, torch.nn.Linear)]
            for layer, kernel in zip(linear, kernels, strict=True):
                layer.weight.data = torch.from_numpy(np.array(kernel).T.copy())
        self.optimizers = [torch.optim.SGD(m.parameters(), LR) for m in self.models]
        self.order = torch.randperm(len(self.x))

    @staticmethod
    def model(shape: Shape) -> Any:
        layers: list[Any] = []
        for _, fan_in, fan_out in shape.layers:
            layers += [torch.nn.Linear(fan_in, fan_out, bias=False), torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    def advance(self, steps: int) -> None:
        per_epoch = len(self.x) // self.batch
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            for step in range(self.position, self.position + steps):
                if step % per_epoch == 0:
                    self.order = torch.randperm(len(self.x))
                start = step % per_epoch * self.batch
                index = self.order[start : start + self.batch]
                optimizer.zero_grad()
                outputs = model(self.x[index])
                loss = torch.nn.functional.cross_entropy(outputs, self.y[index])
                loss.backward()
                optimizer.step()
                self.losses.append(loss.detach())
        self.position += steps


def check_same_work(steps: int = 20) -> float:
    """Return the largest gap between the two loss curves from the same weights."""
    case = Case(64, batch=64)
    data = make_data(64)  # the batch is all of it, so its order does not matter
    plan = Plan(case.shape, "cross-entropy", Optimizer("sgd"), 64, steps, 64)
    outcome = training.train(plan, make_members(case), data, (0, steps), (Kernels(),))
    other = Torch(case, data, [k[0] for k in outcome.observations[0]["kernels"]])
    other.advance(steps)
    gap = float(np.abs(outcome.losses[0] - np.array(other.losses)).max())
    if gap > 1e-4:
        raise SystemExit(f"the two sides do not do the same work: losses {gap} apart")
    return gap


# --- other processes


class Quiet:
    """Notice what other processes do (Linux; elsewhere nothing is noticed)."""

    LIMIT = 0.08  # share of the machine
    seconds_left = 60.0  # patience, for the whole run

    def __init__(self) -> None:
        self.start, self.foreign = time.perf_counter(), self._foreign()

    @staticmethod
    def _foreign() -> float:
        """Return the seconds of all cores that this process has not used."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                fields = [int(v) for v in file.readline().split()[1:9]]
        except OSError:
            return 0.0
        idle = fields[3] + fields[4]
        own = os.times()
        tick = os.sysconf("SC_CLK_TCK")
        return (sum(fields) - idle) / tick - own.user - own.system

    def disturbed(self) -> bool:
        """Whether others have used the cores since this object was made."""
        passed = time.perf_counter() - self.start
        return self._foreign() - self.foreign > self.LIMIT * CORES * passed + 0.02

    @classmethod
    def wait(cls) -> None:
        """Wait for a quiet moment, as long as there is patience."""
        while cls.seconds_left > 0:
            window = cls()
            time.sleep(0.25)
            if not window.disturbed():
                return
            cls.seconds_left -= 0.25


# --- matrix products


@jax.jit
def _square(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")


def square_rate(sides: Iterable[str] = ("jax", "torch")) -> dict[str, float]:
    """Return operations per second of one large square product in float32."""
    a = np.random.default_rng(0).standard_normal((SQUARE, SQUARE)).astype(np.float32)
    rates = {}
    if "jax" in sides:
        on_device = jax.device_put(a, jax.local_devices()[0])
        rates["jax"] = _best(lambda: _square(on_device, on_device).block_until_ready())
    if "torch" in sides and torch is not None:
        on_host, out = torch.from_numpy(a), torch.empty(SQUARE, SQUARE)
        rates["torch"] = _best(lambda: torch.mm(on_host, on_host, out=out))
    return {side: 2 * SQUARE**3 / seconds for side, seconds in rates.items()}


def _best(work: Callable[[], Any], repetitions: int = 3) -> float:
    work()
    return min(timed(work) for _ in range(repetitions))


@functools.partial(jax.jit, static_argnums=0)
def _products(steps: int, inputs: Any, errors: Any, kernels: Any) -> Any:
    """Do a step's matrix products and nothing else, each result written out."""
    dot = functools.partial(jnp.matmul, precision="highest")

    def all_products(shift: Any) -> list[Any]:
        results = []
        triples = zip(inputs, errors, kernels, strict=True)
        for i, (x, e, w) in enumerate(triples):
            # The shift is zero, but the compiler cannot move products out of the loop.
            x, e = x + shift, e + shift
            results += [dot(x, w), dot(x.T, e)]
            if i > 0:
                results.append(dot(e, w.T))
        return results

    def again(_: Any, carry: Any) -> Any:
        return all_products(0.0 * carry[0][0, 0])

    zeros = [jnp.zeros(v.shape, v.dtype) for v in jax.eval_shape(all_products, 0.0)]
    return jax.lax.fori_loop(0, steps, again, zeros)


def products_rate(case: Case, seconds: float) -> float:
    """Return operations per second of the products of one member's step, alone."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return jnp.asarray(rng.standard_normal(shape).astype(np.float32))

    layers = [(fan_in, fan_out) for _, fan_in, fan_out in case.shape.layers]
    steps = Case(case.width, 1, case.depth, case.batch).steps(seconds)
    arguments = (
        [draw(case.batch, i) for i, _ in layers],
        [draw(case.batch, o) for _, o in layers],
        [draw(i, o) for i, o in layers],
    )
    best = _best(lambda: jax.block_until_ready(_products(steps, *arguments)))
    return case.shape.flops * case.batch * steps / best


# --- readings


class Turn(NamedTuple):
    """One repetition: seconds of a step of all members, and operations per second."""

    ours: float
    theirs: float
    square: float
    disturbed: bool


def measure(case: Case, seconds: float, repetitions: int, with_torch: bool) -> dict:
    """Time one case: the engine, PyTorch and a square product take turns."""
    steps = case.steps(seconds)
    warm = max(steps // 4, 2)
    stops = [0, warm, *(warm + steps * (i + 1) for i in range(repetitions))]
    data = make_data()
    other = Torch(case, data) if with_torch else None
    turns: list[Turn] = []
    start = began = time.perf_counter()
    compiled, quiet = 0.0, Quiet()

    def pause(stop: int) -> None:
        # The engine is idle in here: the probe has waited for the weights.
        nonlocal start, compiled, quiet
        took = time.perf_counter() - start
        if stop == 0:
            compiled = time.perf_counter() - began
        elif stop == warm:
            if other is not None:
                other.advance(warm)
        else:
            theirs = timed(lambda: other.advance(steps)) if other else np.nan
            square = max(square_rate().values())
            turn = Turn(took / steps, theirs / steps, square, quiet.disturbed())
            turns.append(turn)
        Quiet.wait()
        quiet, start = Quiet(), time.perf_counter()

    outcome = training.train(
        case.plan(stops[-1]),
        make_members(case),
        data,
        stops,
        (Pulse(),),
        on_checkpoint=pause,
    )
    assert (outcome.diverged_at < 0).all(), "a member diverged: nothing was measured"
    undisturbed = [turn for turn in turns if not turn.disturbed]
    kept = undisturbed if len(undisturbed) >= 2 else turns
    mine, theirs, gemm = (
        statistics.median(getattr(turn, what) for turn in kept)
        for what in ("ours", "theirs", "square")
    )
    flops = case.members * case.shape.flops * case.batch / mine
    products = products_rate(case, seconds / 2)
    reading = {
        "name": case.name,
        "depth": case.depth,
        "width": case.width,
        "batch": case.batch,
        "members": case.members,
        "steps_per_repetition": steps,
        "turns": len(turns),
        "disturbed": len(turns) - len(undisturbed),
        "compile_s": compiled,
        "member_steps_per_s": case.members / mine,
        "gflops": flops / 1e9,
        "square_gflops": gemm / 1e9,
        "of_square": flops / gemm,
        "products_gflops": products / 1e9,
        "of_products": flops / products,
    }
    if other is not None:
        reading["torch_member_steps_per_s"] = case.members / theirs
        reading["torch_ratio"] = theirs / mine
    return reading


HEADER = (
    "hidden  width batch members | steps/s  GFLOP/s  of GEMM  of products  compile"
    " | PyTorch  ratio | quiet"
)


def line(r: dict) -> str:
    left = f"{r['depth']:>6} {r['width']:>6} {r['batch']:>5} {r['members']:>7} | "
    left += f"{r['member_steps_per_s']:>7.4g} {r['gflops']:>8.1f} "
    left += f"{r['of_square']:>8.2f} {r['of_products']:>12.2f} "
    left += f"{r['compile_s']:>6.1f} s | "
    if "torch_ratio" not in r:
        left += "      -      -"
    else:
        left += f"{r['torch_member_steps_per_s']:>7.4g} {r['torch_ratio']:>5.2f}x"
    return left + f" | {r['turns'] - r['disturbed']}/{r['turns']}"


# --- layouts


def layout_rate(case: Case, devices: int, batch: int, seconds: float) -> float:
    """Return member-steps per second of one layout; compiled at the first call."""
    steps = case.steps(seconds)
    stops, times = (0, 2, 2 + steps), []

    def pause(stop: int) -> None:
        times.append(time.perf_counter())
        if stop == 2:
            Quiet.wait()
            times[-1] = time.perf_counter()

    chosen = functools.partial(_constant, batch)
    with mock.patch.object(training, "members_per_batch", chosen):
        training.train(
            case.plan(stops[-1]),
            make_members(case),
            make_data(),
            stops,
            (Pulse(f"batches of {batch}"),),
            devices=jax.local_devices()[:devices],
            on_checkpoint=pause,
        )
    return case.members * steps / (times[-1] - times[-2])


def _constant(value: int, *_: Any) -> int:
    return value


def layouts(widths: Sequence[int], seconds: float, repetitions: int) -> list[dict]:
    """Time every layout at every width, in turns; print the winners."""
    table = []
    every = sorted({1, len(jax.local_devices())})
    print("member-steps per second; batch: members in one computation; * is the choice")
    for width in widths:
        case = Case(width, 32 if width < 1024 else 8)
        grid = []
        for devices in every:
            share = case.members // devices
            grid += [(devices, b) for b in (1, 2, 4, 8) if b < share]
            grid.append((devices, share))
        rates: dict[Any, list[float]] = {layout: [] for layout in grid}
        for _ in range(repetitions):
            for layout in grid:
                rates[layout].append(layout_rate(case, *layout, seconds))
        median = {layout: statistics.median(r) for layout, r in rates.items()}
        best = max(median, key=lambda layout: median[layout])
        for devices in every:
            share = case.members // devices
            mine = training.members_per_batch("cpu", width, share, devices)
            cells = [
                f"{b if b < share else 'all'}: {r:.4g}{'*' if b == mine else ''}"
                for (d, b), r in median.items()
                if d == devices
            ]
            print(f"width {width:>5} devices {devices} | " + "  ".join(cells))
        print(f"      best: {best[0]} devices, batch {best[1]}", flush=True)
        table += [
            {"width": width, "members": case.members, "devices": d, "batch": b}
            | {"member_steps_per_s": r, "best": (d, b) == best}
            for (d, b), r in median.items()
        ]
    return table


# --- command line


def facts() -> dict[str, Any]:
    return {
        "cores": CORES,
        "devices": len(jax.local_devices()),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": None if torch is None else str(torch.__version__),
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def command_line(named: dict[str, Case]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    lines = parser.add_mutually_exclusive_group()
    lines.add_argument("--widths", type=int, nargs="+", help="widths to measure")
    lines.add_argument(
        "--case",
        choices=named,
        metavar="NAME",
        help=f"measure only this line; one of {', '.join(named)}",
    )
    parser.add_argument("--quick", action="store_true", help="short, less exact")
    parser.add_argument("--no-torch", action="store_true", help="the engine alone")
    parser.add_argument("--layouts", action="store_true", help="compare layouts only")
    parser.add_argument(
        "--patience",
        type=float,
        default=Quiet.seconds_left,
        metavar="SECONDS",
        help="how long to wait, in all, for other processes (default %(default).0f)",
    )
    parser.add_argument("--json", metavar="PATH", help="write the readings here, too")
    return parser.parse_args()


def main() -> None:
    named = {case.name: case for case in cases(WIDTHS, quick=False)}
    options = command_line(named)
    Quiet.seconds_left = options.patience
    training.use_all_cores()
    with_torch = torch is not None and not options.no_torch
    report: dict[str, Any] = facts()
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    seconds, repetitions = (0.15, 3) if options.quick else (0.6, 5)
    if options.layouts:
        default = (64, 256, 1024) if options.quick else WIDTHS[:-1]
        widths = options.widths or default
        report["layouts"] = layouts(widths, seconds, 1 if options.quick else 3)
    else:
        if with_torch:
            torch.set_num_threads(CORES)
            report["largest_gap_of_losses"] = check_same_work()
        elif torch is None:
            print('no PyTorch to compare with; get it by pip install -e ".[bench]"')
        widths = options.widths or ((64, 256, 1024) if options.quick else WIDTHS)
        Quiet.wait()
        rates = {side: rate / 1e9 for side, rate in square_rate().items()}
        report["square_gflops"] = rates
        shown = ", ".join(f"{side} {rate:.0f}" for side, rate in rates.items())
        print(f"float32 products of size {SQUARE}, GFLOP/s: {shown}\n{HEADER}")
        report["readings"] = []
        table = cases(widths, options.quick)
        for case in [named[options.case]] if options.case else table:
            reading = measure(case, seconds, repetitions, with_torch)
            report["readings"].append(reading)
            print(line(reading), flush=True)
    if hasattr(os, "getloadavg"):
        report["load_at_end"] = os.getloadavg()[0]
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
