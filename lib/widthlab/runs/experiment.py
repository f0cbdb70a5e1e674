r"""The specification of a training run.

An experiment is described by a frozen value whose hash, together with that of the data
and of the library's source, names the record that it leaves.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np

from widthlab import parametrization as parametrizations
from widthlab import registry
from widthlab.activations import ACTIVATIONS
from widthlab.data import DataSpec, Stream, Synthetic
from widthlab.fields import (
    choice,
    count,
    either,
    instance,
    known,
    number,
    optional,
    seed_of_jax,
    several,
    text,
)
from widthlab.model import ROUNDINGS, Scales, Shape
from widthlab.parametrization import Parametrization
from widthlab.parametrization.exponents import BIASES
from widthlab.probes import Features
from widthlab.probes import registry as probe_registry
from widthlab.runs import experiment_json
from widthlab.runs.ensembles import run_ensemble
from widthlab.runs.provenance import record_key
from widthlab.runs.spec import Spec
from widthlab.training.calibration import Calibration
from widthlab.training.epsilon import warn_of_epsilon
from widthlab.training.losses import LOSSES
from widthlab.training.optimizer import Optimizer
from widthlab.training.schedules import Schedule
from widthlab.training.state import TRACKED, Plan, Probe

if TYPE_CHECKING:
    from widthlab.runs.record import Record

PRECISIONS = ("float32", "float64", *ROUNDINGS)
"""What a run may compute in."""

_COLUMNS = (
    *("width", "depth", "growth", "activation", "loss", "lr", "seed", "batch_size"),
    *("base_width", "biases", "precision"),
)
_DEEPEST = 10_000  # layers are compiled one by one
_RATES = either(instance(Calibration), several(number(above=0)))
_GAINS = several(number(least=0), length=3)


@attrs.frozen(kw_only=True)
class Experiment(Spec):
    r"""One training run.

    Attributes:
        data: data set as prepared, synthetic task, or stream of fresh examples.
        parametrization: a name of the catalogue or a table of its own.
        width: size $n$ of the hidden layers.
        depth: number $L$ of hidden layers.
        growth: exponent $q$ of sizes that grow with depth, $n_l = n\,l^q$.
        activation: name of the nonlinearity.
        loss: "cross-entropy", "mse" or one that is registered.
        optimizer: update rule.
        lr: base learning rate $\eta$.
        seed: decides initial weights and the order of batches.
        first_lr: base learning rates of the first step, where they differ: one for each
            matrix, or the rule that finds them.
        batch_size: examples per step; None is full-batch gradient descent, which a
            stream does not have.
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
        precision: "float32" or "float64"; "tf32" and "bfloat16" are float32 with matrix
            products rounded so, while weights and updates stay float32.
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

    kind: ClassVar[str] = "runs"
    together: ClassVar[int | None] = 16
    fills_up: ClassVar[bool] = True

    data: DataSpec | Synthetic | Stream = attrs.field(
        converter=instance(DataSpec, Synthetic, Stream)
    )
    parametrization: Parametrization | str = attrs.field(
        converter=either(
            instance(Parametrization), known(parametrizations.get, "a name")
        )
    )
    width: int = attrs.field(converter=count())
    depth: int = attrs.field(default=3, converter=count(most=_DEEPEST))
    growth: float = attrs.field(default=0.0, converter=number())
    activation: str = attrs.field(default="tanh", converter=text())
    loss: str = attrs.field(
        default="cross-entropy", converter=known(LOSSES.known, "a name")
    )
    optimizer: Optimizer = attrs.field(factory=Optimizer, converter=instance(Optimizer))
    lr: float = attrs.field(converter=number(above=0))
    first_lr: Calibration | tuple[float, ...] | None = attrs.field(
        default=None, converter=optional(_RATES)
    )
    seed: int = attrs.field(default=0, converter=seed_of_jax())
    batch_size: int | None = attrs.field(
        default=None, converter=optional(count(), "for all")
    )
    steps: int = attrs.field(converter=count())
    checkpoints: tuple[int, ...] = attrs.field(default=(), converter=several(count(0)))
    base_width: int = attrs.field(default=1, converter=count())
    gains: tuple[float, float, float] = attrs.field(
        default=(1.0, 1.0, 1.0), converter=_GAINS
    )
    biases: str = attrs.field(default="none", converter=choice(BIASES))
    bias_gains: tuple[float, float, float] = attrs.field(
        default=(1.0, 1.0, 1.0), converter=_GAINS
    )
    stop_below: float | None = attrs.field(default=None, converter=optional(number()))
    probes: tuple[Any, ...] = attrs.field(
        default=(Features(),), converter=several(instance(Probe))
    )
    precision: str = attrs.field(default="float32", converter=choice(PRECISIONS))
    schedule: Schedule = attrs.field(factory=Schedule, converter=instance(Schedule))
    track: tuple[str, ...] = attrs.field(
        default=(), converter=several(choice(TRACKED), once=True)
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what does not go together, before anything is computed."""
        if not self.checkpoints:
            object.__setattr__(self, "checkpoints", (0, self.steps))
        self._check_sizes()
        self._check_first_lr()
        self._check_loss()
        for probe in self.probes:
            self._check_probe(probe)
        # Sizes, depth and optimizer must suit the parametrization.
        scales = self._checked_scales()
        self._check_schedule(scales)
        warn_of_epsilon(self.optimizer, self.shape, scales)

    def _check_sizes(self) -> None:
        if isinstance(self.data, Stream):
            if self.batch_size is None:
                raise ValueError(
                    "batch_size is None; a stream has no end: say how many examples a "
                    "step takes"
                )
        elif (self.batch_size or 1) > self.data.train_size:
            raise ValueError(
                f"batch_size is {self.batch_size}; with {self.data.train_size} "
                "training examples it must be between 1 and that, or None for all"
            )
        increasing = all(a < b for a, b in itertools.pairwise(self.checkpoints))
        if not increasing or self.checkpoints[-1] != self.steps:
            raise ValueError(
                f"checkpoints are {self.checkpoints}; they must increase from 0 or "
                f"later to the last step, {self.steps}"
            )

    def _checked_scales(self) -> Scales:
        """Return the scales if the run's precision has numbers as large and as small.

        What overflows there would train to the end and say that it diverged.
        """
        with np.errstate(over="ignore", under="ignore"):
            scales = self.scales()
            smallest = np.asarray(self.lr, self.dtype)
        beyond = [n for n, v in scales._asdict().items() if not np.isfinite(v).all()]
        if beyond or not smallest:
            raise ValueError(
                f"lr is {self.lr}, gains are {self.gains} and bias_gains are "
                f"{self.bias_gains}: of the network's scales, "
                f"{', '.join(beyond) or 'lr'} has no number in {self.dtype}; give "
                "smaller ones, or larger where they vanish"
            )
        return scales

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
        if len(rates) != self.depth + 1:
            raise ValueError(
                f"first_lr is {rates}; it must be one finite number above 0 for each "
                f"of the {self.depth + 1} matrices, a Calibration, or None"
            )

    def _check_loss(self) -> None:
        wanted = LOSSES[self.loss].targets
        if (wanted == "labels") != (self.data.targets == "labels"):
            takes = "takes targets='labels'" if wanted == "labels" else "takes values"
            raise ValueError(
                f"loss {self.loss!r} does not go with targets {self.data.targets!r}: "
                f"it {takes}; cross-entropy takes DataSpec(targets='labels'), mse any "
                "other targets"
            )

    def _check_schedule(self, scales: Scales) -> None:
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
        probe_registry.check(probe)
        if hasattr(probe, "check"):
            probe.check(self)

    @property
    def table(self) -> Parametrization:
        """The parametrization's table of exponents."""
        assert isinstance(self.parametrization, Parametrization)
        return self.parametrization

    @property
    def shape(self) -> Shape:
        """Sizes of the network."""
        sizes = range(1, self.depth + 1)
        try:
            widths = tuple(round(self.width * layer**self.growth) for layer in sizes)
        except OverflowError as error:
            raise ValueError(
                f"growth is {self.growth}; with width {self.width} and depth "
                f"{self.depth} layers are larger than any number"
            ) from error
        return Shape(
            self.data.input_dim,
            widths,
            self.data.output_dim,
            self.activation,
            self.biases,
            self.precision if self.precision in ROUNDINGS else "none",
        )

    @property
    def dtype(self) -> str:
        """Type of weights and data, "float32" or "float64"."""
        return "float64" if self.precision == "float64" else "float32"

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
            schedule=attrs.evolve(self.schedule, target=1.0),
            track=self.track,
            stream=self.data if isinstance(self.data, Stream) else None,
        )

    @property
    def program(self) -> Any:
        """What runs have in common that train together: one compiled program."""
        return self.plan, self.data, self.checkpoints, self.probes

    @property
    def columns(self) -> dict[str, Any]:
        """What tells its record apart in a table of many."""
        return {name: getattr(self, name) for name in _COLUMNS} | {
            "parametrization": self.table.name,
            "data": self.data.name,
            "variant": self.data.variant,
            "optimizer": self.optimizer.name,
            "schedule": self.schedule.name,
            "target": self.schedule.target,
        }

    @classmethod
    def run_cell(cls, cell: Sequence[Experiment | None]) -> list[Record]:
        """Train runs of one program as one ensemble."""
        return run_ensemble(cell)

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

    @property
    def plugins(self) -> dict[str, str]:
        """Hashes of the source of all that is not the library's own, by what it is."""
        return registry.sources(
            [
                *((probe_registry.PROBES, probe.name) for probe in self.probes),
                *((ACTIVATIONS, self.activation), (LOSSES, self.loss), self.data.entry),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; its hash names the record."""
        return experiment_json.written(self)

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> Experiment:
        """Read what `to_json` wrote, in this or an earlier version of the library.

        A field that was not there yet has its default.

        Raises:
            ValueError: a plug-in is not registered here, or with other source.
        """
        return experiment_json.read(cls, spec)

    @property
    def key(self) -> str:
        """Name of the record: a hash of specification, data and library source."""
        return record_key(self.to_json(), self.data.load().sha256)
