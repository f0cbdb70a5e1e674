r"""From a specification to a record: `Experiment` -> `run` or `sweep` -> `Record`.

An experiment is one training run, described by a frozen value whose hash, together with
that of the data and of the library's source, names the record that it leaves. A sweep
trains the runs that share a compiled program together, and skips what the store holds.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from widthlab import parametrization as parametrizations
from widthlab import probes as probe_module
from widthlab.calibration import Calibrated, Calibration, calibrate_members, rates_table
from widthlab.data import DataSpec
from widthlab.model import Scales, Shape
from widthlab.parametrization import Parametrization
from widthlab.probes import Features
from widthlab.schedules import PRODUCTS, Schedule
from widthlab.store import Store, default_store, provenance, record_key
from widthlab.tensor_program import CovariancePreservation
from widthlab.training import (
    LOSSES,
    Data,
    Members,
    Optimizer,
    Outcome,
    Plan,
    use_all_cores,
)
from widthlab.training import train as train_ensemble

if TYPE_CHECKING:
    import pandas as pd

_TRACKED = (*PRODUCTS, "cosine")
_COUNTS = ("width", "depth", "steps", "base_width")
_MEMBERS_AT_ONCE = 16  # on CPU: what a killed sweep loses, at no cost in speed
_Ensemble = list["Experiment | None"]  # None fills up to the size of the others
_HOST_BUDGET = 2**31  # bytes of an ensemble's weights, gradients and states on CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    r"""One training run.

    Attributes:
        data: data set, as prepared.
        parametrization: a name of the catalogue or a table of its own.
        width: size $n$ of the hidden layers.
        depth: number $L$ of hidden layers.
        growth: exponent $q$ of sizes that grow with depth, $n_l = n\,l^q$.
        activation: name of the nonlinearity.
        loss: "cross-entropy" or "mse".
        optimizer: update rule.
        lr: base learning rate $\eta$.
        seed: decides initial weights and the order of batches.
        first_lr: base learning rates of the first step, where they differ: one for each
            matrix, or the rule that finds them.
        batch_size: examples per step; None is full-batch gradient descent.
        steps: number of steps.
        checkpoints: steps at which probes are taken, `steps` among them; by default the
            first and the last.
        base_width: width at which all parametrizations coincide; 1 for pure exponents.
        gains: factors on the initial standard deviation of input, hidden and output
            layers.
        biases: which layers add biases: "none", "input" (the first) or "all".
        bias_gains: factors on the initial standard deviation of biases.
        stop_below: end the run at the first step whose loss is below this.
        probes: what to measure.
        dtype: "float32" or "float64".
        schedule: rule for a common factor on all learning rates.
        track: what to measure at every step, on its batch: the largest eigenvalue of
            the "gauss-newton" matrix or the "hessian" in the metric of the later steps'
            learning rates, here and in rows at base rate 1; "cosine" of the update with
            the path so far.

    Example:
        >>> spec = Experiment(
        ...     data=DataSpec("digits", n_train=64, targets="labels"),
        ...     parametrization="mup", width=32, lr=0.5, batch_size=32, steps=5,
        ... )
        >>> spec.shape.widths, spec.checkpoints
        ((32, 32, 32), (0, 5))
    """

    data: DataSpec
    parametrization: Parametrization | str
    width: int
    depth: int = 3
    growth: float = 0.0
    activation: str = "tanh"
    loss: str = "cross-entropy"
    optimizer: Optimizer = field(default_factory=Optimizer)
    lr: float
    first_lr: Calibration | tuple[float, ...] | None = None
    seed: int = 0
    batch_size: int | None = None
    steps: int
    checkpoints: tuple[int, ...] = ()
    base_width: int = 1
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    biases: str = "none"
    bias_gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    stop_below: float | None = None
    probes: tuple[Any, ...] = (Features(),)
    dtype: str = "float32"
    schedule: Schedule = field(default_factory=Schedule)
    track: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Look up names and refuse what cannot be run, before anything is computed."""
        if isinstance(self.parametrization, str):
            table = parametrizations.get(self.parametrization)
            object.__setattr__(self, "parametrization", table)
        if not self.checkpoints:
            object.__setattr__(self, "checkpoints", tuple(sorted({0, self.steps})))
        self._normalise()
        self._check_numbers()
        self._check_choices()
        # Sizes, depth and optimizer must suit the parametrization.
        self._check_schedule(self.scales())

    def _normalise(self) -> None:
        """Bring equal values into one form: equal specifications have equal keys."""
        same: dict[str, Any] = {
            "checkpoints": tuple(self.checkpoints),
            "probes": tuple(self.probes),
            "track": tuple(dict.fromkeys(self.track)),
            "gains": tuple(float(gain) for gain in self.gains),
            "bias_gains": tuple(float(gain) for gain in self.bias_gains),
        }
        if self.first_lr is not None and not isinstance(self.first_lr, Calibration):
            same["first_lr"] = tuple(float(rate) for rate in self.first_lr)
        for name in ("lr", "growth", "stop_below"):
            value = getattr(self, name)
            same[name] = None if value is None else float(value)
        for name in (*_COUNTS, "seed", "batch_size"):
            value = getattr(self, name)
            same[name] = int(value) if isinstance(value, np.integer) else value
        for name, value in same.items():
            object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        for what, least in (*((count, 1) for count in _COUNTS), ("seed", 0)):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{what} is {value!r}; it must be an integer from {least} on"
                )
        if not math.isfinite(self.lr) or self.lr <= 0:
            raise ValueError(
                f"lr is {self.lr!r}; a learning rate is a finite number above 0"
            )
        self._check_first_lr()
        if self.batch_size is not None and not (
            1 <= self.batch_size <= self.data.train_size
        ):
            raise ValueError(
                f"batch_size is {self.batch_size}; with {self.data.train_size} "
                "training examples it must be between 1 and that, or None for all"
            )
        increasing = all(a < b for a, b in itertools.pairwise(self.checkpoints))
        if (
            not increasing
            or self.checkpoints[0] < 0
            or self.checkpoints[-1] != self.steps
        ):
            raise ValueError(
                f"checkpoints are {self.checkpoints}; they must increase from 0 or "
                f"later to the last step, {self.steps}"
            )

    def _check_first_lr(self) -> None:
        rates = self.first_lr
        if isinstance(rates, Calibration) and self.optimizer.normalises:
            raise ValueError(
                f"first_lr is a calibration and the optimizer {self.optimizer.name!r}; "
                "the size of its updates does not follow the gradient: give rates, or "
                "use sgd or momentum"
            )
        if not isinstance(rates, tuple):
            return
        usable = all(math.isfinite(rate) and rate > 0 for rate in rates)
        if len(rates) != self.depth + 1 or not usable:
            raise ValueError(
                f"first_lr is {rates}; it must be one finite number above 0 for each "
                f"of the {self.depth + 1} matrices, a Calibration, or None"
            )

    def _check_choices(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(
                f"no loss is called {self.loss!r}; there are {list(LOSSES)}"
            )
        if (self.loss == "cross-entropy") != (self.data.targets == "labels"):
            raise ValueError(
                f"loss {self.loss!r} does not go with targets {self.data.targets!r}: "
                "cross-entropy takes DataSpec(targets='labels'), mse any other targets"
            )
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is {self.dtype!r}; it is 'float32' or 'float64'")
        for probe in self.probes:
            self._check_probe(probe)

    def _check_schedule(self, scales: Scales) -> None:
        if unknown := [name for name in self.track if name not in _TRACKED]:
            raise ValueError(
                f"track names {unknown[0]!r}; what can be tracked is "
                f"{', '.join(_TRACKED)}"
            )
        if self.plan.sees_curvature and self.optimizer.normalises:
            raise ValueError(
                f"the optimizer is {self.optimizer.name!r}, whose steps are not those "
                "of a metric given by learning rates: schedules that vary and tracked "
                "curvature are for sgd and momentum"
            )
        own_start = np.any(scales.first_lr != scales.lr) or np.any(scales.retained != 1)
        calibrated = isinstance(self.first_lr, Calibration)
        if self.schedule.varies and (own_start or calibrated):
            raise ValueError(
                f"the schedule is {self.schedule.name!r} and the first step one of its "
                f"own (parametrization {self.table.name!r}, first_lr "
                f"{self.first_lr!r}); a schedule needs one metric for all steps"
            )

    def _check_probe(self, probe: Any) -> None:
        inputs = getattr(probe, "inputs", 1)
        if inputs > self.data.train_size:
            raise ValueError(
                f"the probe {probe.name!r} takes {inputs} inputs of the training set, "
                f"which has {self.data.train_size}"
            )
        singular = min(self.shape.widths) < 2 * inputs
        if isinstance(probe, Features) and probe.spectra and singular:
            raise ValueError(
                f"width {self.width} is too small for the features of {inputs} inputs: "
                f"the joint Gram matrix needs at least {2 * inputs} dimensions; widen "
                "the network, or use Features(inputs=..., spectra=False)"
            )
        if isinstance(probe, CovariancePreservation):
            if probe.matrix > self.depth:
                raise ValueError(
                    f"the probe {probe.name!r} is for matrix {probe.matrix}; hidden "
                    f"matrices at depth {self.depth} are 2 to {self.depth}"
                )
            if self.checkpoints != tuple(range(self.steps + 1)):
                raise ValueError(
                    f"the probe {probe.name!r} needs a checkpoint at every step, "
                    f"checkpoints=tuple(range({self.steps + 1})), not "
                    f"{self.checkpoints}"
                )

    @property
    def table(self) -> Parametrization:
        """The parametrization's table of exponents."""
        assert isinstance(self.parametrization, Parametrization)
        return self.parametrization

    @property
    def shape(self) -> Shape:
        """Sizes of the network."""
        sizes = range(1, self.depth + 1)
        widths = tuple(round(self.width * layer**self.growth) for layer in sizes)
        return Shape(
            self.data.input_dim,
            widths,
            self.data.output_dim,
            self.activation,
            self.biases,
        )

    @property
    def plan(self) -> Plan:
        """What of this run is compiled in."""
        return Plan(
            shape=self.shape,
            loss=self.loss,
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            steps=self.steps,
            train_size=self.data.train_size,
            dtype=self.dtype,
            schedule=replace(self.schedule, target=1.0),
            track=self.track,
        )

    @property
    def program(self) -> Any:
        """What runs have in common that train together: one compiled program."""
        return self.plan, self.data, self.checkpoints, self.probes

    def scales(self) -> Scales:
        """Return the numbers that the parametrization assigns to each tensor.

        Rates that a calibration will find are not in them yet.
        """
        scales = self.shape.scales(
            self.table,
            lr=self.lr,
            base_width=self.base_width,
            gains=self.gains,
            bias_gains=self.bias_gains,
            adam=self.optimizer.normalises,
            dtype=self.dtype,
        )
        if not isinstance(self.first_lr, tuple):
            return scales
        rates = [self.first_lr[tensor.layer - 1] for tensor in self.shape.tensors]
        factors = np.array(rates, self.dtype) / np.asarray(self.lr, self.dtype)
        return scales._replace(first_lr=scales.first_lr * factors)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; its hash names the record."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["data"] = self.data.to_json()
        out["parametrization"] = self.table.to_json()
        out["optimizer"] = {
            f.name: getattr(self.optimizer, f.name) for f in fields(Optimizer)
        }
        out["probes"] = [probe_module.to_json(p) for p in self.probes]
        out["checkpoints"] = list(self.checkpoints)
        out["schedule"] = asdict(self.schedule)
        out["track"] = list(self.track)
        out["gains"] = list(self.gains)
        out["bias_gains"] = list(self.bias_gains)
        if isinstance(self.first_lr, Calibration):
            out["first_lr"] = asdict(self.first_lr)
            out["first_lr"]["cap"] = str(self.first_lr.cap)  # JSON has no infinity
        elif self.first_lr is not None:
            out["first_lr"] = list(self.first_lr)
        return out

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> Experiment:
        """Read what `to_json` wrote, in this or an earlier version of the library.

        A field that was not there yet has its default.
        """
        read: dict[str, Callable[[Any], Any]] = {
            "data": DataSpec.from_json,
            "parametrization": Parametrization.from_json,
            "optimizer": lambda options: Optimizer(**options),
            "probes": lambda probes: tuple(map(probe_module.from_json, probes)),
            "schedule": lambda options: Schedule(**options),
            "track": tuple,
            "checkpoints": tuple,
            "gains": tuple,
            "bias_gains": tuple,
            "first_lr": _first_lr_from_json,
        }
        return cls(**{k: read[k](v) if k in read else v for k, v in spec.items()})

    @property
    def key(self) -> str:
        """Name of the record: a hash of specification, data and library source."""
        return record_key(self.to_json(), self.data.load().sha256)


def _first_lr_from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Calibration(**{name: float(number) for name, number in value.items()})
    return value and tuple(value)


@dataclass(frozen=True, slots=True)
class Record:
    """What a run left.

    Attributes:
        experiment: the specification.
        columns: the table by columns: step, layer, quantity, value.
        diverged_at: step whose loss or gradient was not finite, or None.
        stopped_at: step at which the loss fell below `stop_below`, or None.
        provenance: versions, device, time and hashes behind the numbers.
    """

    experiment: Experiment
    columns: Mapping[str, list[Any]] = field(repr=False)
    diverged_at: int | None
    stopped_at: int | None
    provenance: Mapping[str, Any] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """The measurements in long form, one a row."""
        import pandas as pd

        # In this order, which the store's sorted JSON does not keep.
        columns = ["step", "layer", "quantity", "value"]
        return pd.DataFrame(dict(self.columns), columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "experiment": self.experiment.to_json(),
            "columns": dict(self.columns),
            "diverged_at": self.diverged_at,
            "stopped_at": self.stopped_at,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read what `to_json` wrote."""
        return cls(
            Experiment.from_json(data["experiment"]),
            data["columns"],
            data["diverged_at"],
            data["stopped_at"],
            data["provenance"],
        )


_SPEC_COLUMNS = (
    "width",
    "depth",
    "growth",
    "activation",
    "loss",
    "lr",
    "seed",
    "batch_size",
    "base_width",
    "biases",
    "dtype",
)


def frame(records: Iterable[Record], *quantities: str) -> pd.DataFrame:
    """Join records into one table in long form, with their specifications as columns.

    Args:
        records: what to join.
        quantities: names to keep; all of them if none is given.

    Returns:
        One row for each measurement, with `step`, `layer`, `quantity`, `value`, the
        fields of the specification, `diverged_at` and `stopped_at`.
    """
    import pandas as pd

    parts = []
    for record in records:
        part = record.table
        if quantities:
            part = part[part["quantity"].isin(quantities)]
        spec = record.experiment
        columns = {name: getattr(spec, name) for name in _SPEC_COLUMNS}
        columns |= {
            "parametrization": spec.table.name,
            "data": spec.data.name,
            "variant": spec.data.variant,
            "optimizer": spec.optimizer.name,
            "schedule": spec.schedule.name,
            "target": spec.schedule.target,
            "diverged_at": record.diverged_at,
            "stopped_at": record.stopped_at,
        }
        parts.append(part.assign(**columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def run(experiment: Experiment, store: Store | None = None) -> Record:
    """Run one experiment, or read its record where the store has it."""
    return sweep([experiment], store=store)[0]


def sweep(
    experiments: Iterable[Experiment],
    store: Store | None = None,
    *,
    progress: bool | None = None,
) -> list[Record]:
    """Run experiments, those that share a compiled program together.

    Finished runs are written to the store one ensemble at a time, so that a sweep that
    is interrupted goes on where it was.

    Args:
        experiments: what to run; duplicates are run once.
        store: where records live; the user's cache folder by default, which the
            environment variable WIDTHLAB_STORE moves.
        progress: show a bar; by default if there is a terminal to show it on.

    Returns:
        One record for each experiment, in their order.
    """
    wanted = list(experiments)
    store = default_store() if store is None else store
    use_all_cores()
    keys = {spec: spec.key for spec in dict.fromkeys(wanted)}
    missing = [spec for spec, key in keys.items() if key not in store]

    def finish(ensemble: _Ensemble) -> int:
        records = list(_run_ensemble(ensemble))
        for record in records:
            store.put(keys[record.experiment], record.to_json())
        return len(records)

    bar = _bar(len(keys), len(keys) - len(missing), progress)
    with bar, _one_blas_thread():
        for finished in _overlapped(finish, _ensembles(missing)):
            bar.update(finished)
    return [Record.from_json(store.get(keys[spec])) for spec in wanted]


def first_rates(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """Calibrate the first steps of runs without training them.

    Args:
        experiments: what to calibrate; all have a `Calibration` for their `first_lr`.

    Returns:
        What `calibration.report` returns for the records of these runs.
    """
    use_all_cores()
    specs = list(experiments)
    with ThreadPoolExecutor(2) as pool:  # one compiles while the other computes
        return rates_table(zip(specs, pool.map(_first_rates, specs), strict=True))


def _first_rates(spec: Experiment) -> Calibrated:
    loaded = spec.data.load()
    data = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    found = _calibrated([spec], data)[1][0]
    if found is None:
        raise ValueError(
            f"first_lr is {spec.first_lr!r}; only runs with a Calibration have rates "
            "to find"
        )
    return found


def _one_blas_thread() -> Any:
    """Keep NumPy's linear algebra to one thread while networks train.

    The host half of a probe takes spectra of small matrices. Given several threads,
    BLAS waits for them in a busy loop, and next to training that takes seconds where
    one thread takes milliseconds.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _overlapped(
    work: Callable[[_Ensemble], int], ensembles: Iterable[_Ensemble]
) -> Iterator[int]:
    """Work on two ensembles at a time on CPU: one compiles while the other trains.

    Compiling keeps one core busy and small networks take less time to train than to
    compile, so this halves the time of a sweep over shapes. An accelerator's memory is
    for one ensemble.
    """
    at_once = 2 if jax.default_backend() == "cpu" else 1
    pool = ThreadPoolExecutor(at_once)
    try:
        for future in as_completed([pool.submit(work, e) for e in ensembles]):
            yield future.result()
    finally:  # an interrupted sweep does not begin what is still waiting
        pool.shutdown(cancel_futures=True)


def _ensembles(experiments: Sequence[Experiment]) -> Iterator[_Ensemble]:
    """Group runs by compiled program, then cut groups to what fits at once."""
    groups: dict[Any, list[Experiment]] = {}
    for spec in experiments:
        groups.setdefault(spec.program, []).append(spec)
    cut = [list(_pieces(group)) for group in groups.values()]
    # First pieces of all groups come first: two at a time, none compiles what the other
    # is just compiling.
    for pieces in zip_longest(*cut):
        yield from filter(None, pieces)


def _pieces(group: list[Experiment]) -> Iterator[_Ensemble]:
    """Cut a group into equal pieces, the last filled up: one shape, compiled once.

    On CPU, where what fills up costs next to nothing, sizes are powers of two, so that
    sweeps of different sizes share their programs.
    """
    at_once = _members_at_once(group[0])
    size = math.ceil(len(group) / math.ceil(len(group) / at_once))
    if jax.default_backend() == "cpu":
        size = min(at_once, 1 << (size - 1).bit_length())
    for start in range(0, len(group), size):
        piece = group[start : start + size]
        yield [*piece, *[None] * (size - len(piece))]


def _members_at_once(spec: Experiment) -> int:
    device = jax.local_devices()[0]
    # Weights, their initial copy, gradients, updated weights and the optimizer's state.
    copies = 6 if spec.optimizer.normalises else 4
    # A Ritz vector and a Lanczos basis for each curvature; the path so far.
    copies += 6 * spec.plan.sees_curvature + ("cosine" in spec.track)
    each = spec.shape.parameters * copies * np.dtype(spec.dtype).itemsize
    if device.platform == "cpu":
        return max(1, min(_MEMBERS_AT_ONCE, _HOST_BUDGET // each))
    stats = device.memory_stats() or {}
    free = stats.get("bytes_limit", _HOST_BUDGET) // 2
    return max(1, free // each) * jax.local_device_count()


def _run_ensemble(ensemble: _Ensemble) -> Iterator[Record]:
    start = time.perf_counter()
    experiments = [spec for spec in ensemble if spec is not None]
    first = experiments[0]
    loaded = first.data.load()
    data = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    members, rates = _calibrated(ensemble, data)
    outcome = train_ensemble(first.plan, members, data, first.checkpoints, first.probes)
    each = (time.perf_counter() - start) / len(experiments)
    facts = {**provenance(), "data_sha256": loaded.sha256, "precision": first.dtype}
    for index, spec in enumerate(experiments):
        facts["wall_s"] = round(each, 4)
        yield _record(spec, outcome, index, rates[index], facts)


def _calibrated(
    ensemble: _Ensemble, data: Data
) -> tuple[Members, list[Calibrated | None]]:
    specs = _filled(ensemble)
    rules = [s.first_lr if isinstance(s.first_lr, Calibration) else None for s in specs]
    lrs = [spec.lr for spec in specs]
    return calibrate_members(specs[0].plan, _members(ensemble), data, lrs, rules)


def _filled(ensemble: _Ensemble) -> list[Experiment]:
    stand_in = ensemble[0]
    assert stand_in is not None
    return [spec or stand_in for spec in ensemble]


def _members(ensemble: _Ensemble) -> Members:
    experiments = _filled(ensemble)
    scales = [spec.scales() for spec in experiments]
    dtype = experiments[0].dtype
    thresholds = [
        -np.inf if spec.stop_below is None else spec.stop_below for spec in experiments
    ]
    targets = [spec.schedule.target for spec in experiments]
    return Members(
        key=jnp.stack([jax.random.key(spec.seed) for spec in experiments]),
        scales=Scales(*(np.stack(column) for column in zip(*scales, strict=True))),
        stop_below=np.array(thresholds, dtype),  # pyright: ignore[reportArgumentType]
        real=np.array([spec is not None for spec in ensemble]),  # pyright: ignore[reportArgumentType]
        target=np.array(targets, dtype) if experiments[0].schedule.varies else None,  # pyright: ignore[reportArgumentType]
    )


def _record(
    spec: Experiment,
    outcome: Outcome,
    member: int,
    rates: Calibrated | None,
    facts: Mapping[str, Any],
) -> Record:
    losses = outcome.losses[member]
    rows = [
        (step, 0, "loss", float(loss))
        for step, loss in enumerate(losses)
        if not np.isnan(loss) or step == outcome.diverged_at[member]
    ]
    rows += _tracked_rows(spec, {k: v[member] for k, v in outcome.tracked.items()})
    if rates is not None:
        rows += rates.rows()
    for probe in spec.probes:
        history = [
            jax.tree.map(lambda v: v[member], seen[probe.name])
            for seen in outcome.observations
        ]
        with np.errstate(over="ignore", invalid="ignore"):  # a run about to diverge
            found_at = probe.rows(history)
        for step, found in zip(spec.checkpoints, found_at, strict=True):
            rows += [(step, layer, quantity, value) for quantity, layer, value in found]
    steps, layers, quantities, values = map(list, zip(*rows, strict=True))
    return Record(
        experiment=spec,
        columns={
            "step": steps,
            "layer": layers,
            "quantity": quantities,
            "value": values,
        },
        diverged_at=_step_or_none(outcome.diverged_at[member]),
        stopped_at=_step_or_none(outcome.stopped_at[member]),
        provenance=dict(facts),
    )


def _tracked_rows(spec: Experiment, tracked: Mapping[str, Any]) -> list[Any]:
    """Return rows of what was measured at every step taken, curvature at base rate 1.

    Then "lr" times a curvature is the number that decides on stability.
    """
    units = {"lr": spec.lr, "gauss_newton": 1 / spec.lr, "hessian": 1 / spec.lr}
    return [
        (step, layer, quantity, float(value) * units.get(quantity, 1.0))
        for quantity, values in tracked.items()
        for step, at in enumerate(values)
        for layer, value in enumerate(np.atleast_1d(at))
        if not np.isnan(value)
    ]


def _step_or_none(step: Any) -> int | None:
    return None if step < 0 else int(step)


def _bar(total: int, done: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() if progress is None else not progress
    return tqdm(total=total, initial=done, disable=hidden, unit="run")
