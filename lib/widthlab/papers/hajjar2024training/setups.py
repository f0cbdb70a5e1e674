r"""Experiments of Hajjar, Chizat and Giraud 2024, Section 6, run by run.

Networks have $L = 6$ hidden layers of width 1024 and are trained by SGD on
cross-entropy, in batches of 512 with $\eta = 0.01$, for 600 steps on MNIST and 1,200
on CIFAR-10 in grey. What the text leaves open, or differs in, follows the authors'
published code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from attrs import evolve

from widthlab.data import DataSpec
from widthlab.model import Scales
from widthlab.parametrization import Parametrization, Role, get
from widthlab.probes import Performance, Rank
from widthlab.runs.computed import Computed
from widthlab.runs.ensembles import first_rates
from widthlab.runs.experiment import Experiment
from widthlab.training.calibration import Calibration
from widthlab.training.member import untrained

if TYPE_CHECKING:
    import pandas as pd

CHAPTER = "03-integrable-parametrizations"
"""The chapter that these runs belong to."""

MODELS = ("ip", "ip-llr", "mup", "ip-bias", "ip-non-centred")
"""Parametrizations that the tables compare."""

ACTIVATIONS = ("relu", "gelu", "elu", "tanh")
"""Activations that the tables compare."""

TITLES = {"relu": "ReLU", "gelu": "GELU", "elu": "ELU", "tanh": "tanh"}
"""What figures call the activations."""

TRIALS = 5
"""Trials of a model, one seed each."""

STEPS = {"mnist": 600, "cifar10": 1200}
"""Steps of training by data set."""

DELTA = {"relu": 2**0.5, "gelu": 2.0, "elu": 1.0, "tanh": 1.0}
r"""Standard deviation $\delta$ of the Gaussians behind hidden layers (Table 1)."""


def images(name: str, **settings: Any) -> DataSpec:
    """Return images as the authors prepare them: one mean, one deviation, no colour."""
    grey = {"grayscale": True} if name == "cifar10" else {}
    return DataSpec(name, targets="labels", preprocess="normalize", **grey, **settings)


def experiment(
    parametrization: Any,
    activation: str,
    data: DataSpec,
    *,
    bias_convention: str = "code",
    **settings: Any,
) -> Experiment:
    r"""Return one run in the authors' set-up, with any field replaced.

    Args:
        parametrization: a name of the catalogue or a table.
        activation: a key of `DELTA`.
        data: what to train on, prepared by `images`.
        bias_convention: the first layer's biases start with standard deviation $\delta$
            in the authors' code ("code"), and with $\delta / \sqrt{d + 1}$, like its
            weights, in the text ("text").
        **settings: fields of the experiment.
    """
    delta, fan_in = DELTA[activation], data.input_dim + 1
    first = {"code": delta, "text": delta * fan_in**-0.5}[bias_convention]
    chosen: dict[str, Any] = {
        "width": 1024,
        "depth": 6,
        "lr": 0.01,
        "batch_size": 512,
        "steps": STEPS.get(data.name, 600),
        "gains": (delta * fan_in**-0.5, delta, 1.0),
        "biases": "all" if parametrization == "ip-bias" else "input",
        "bias_gains": (first, delta, 1.0),
        "first_lr": Calibration() if parametrization == "ip-llr" else None,
        "probes": (Performance(),),
    }
    return Experiment(
        parametrization=parametrization,
        activation=activation,
        data=data,
        **{**chosen, **settings},
    )


def few_images(seed: int) -> DataSpec:
    """Return 3,000 of the 4,000 images of `mnist-5k`, others for each seed."""
    return images("mnist-5k", n_train=3000, subset_seed=seed)


def small(model: str, activation: str, seed: int, **settings: Any) -> Experiment:
    """Return a run of the same set-up at the size of a laptop, any field replaced.

    Its seed also chooses its images (`few_images`).
    """
    size = {"width": 128, "steps": 100, "checkpoints": (100,)} | settings
    return experiment(model, activation, few_images(seed), seed=seed, **size)


def constant(depth: int) -> Parametrization:
    r"""Return IP whose learning-rate exponents are $-1, -1, -L$ at every step (ours).

    It trains: for ReLU it computes what `small_readout` does, at every width.
    """
    exponents = dict(zip(Role, (-1, -1, -depth), strict=True))
    ip = get("ip")
    rows = tuple(
        (role, evolve(row, c=Fraction(exponents[role]))) for role, row in ip.exponents
    )
    name = "ip, constant rates"
    return evolve(ip, name=name, label="IP, constant rates", exponents=rows)


def small_readout(depth: int) -> Parametrization:
    r"""Return μP whose read-out starts smaller by $n^{-(L-1)/2}$ (ours).

    By homogeneity ReLU moves the factors $n^{-1/2}$ of IP's hidden matrices there.
    """
    mup = get("mup")
    output = mup[Role.OUTPUT]
    changed = mup.mutated(Role.OUTPUT, b=output.b + Fraction(depth - 1, 2))
    return evolve(changed, name="mup, small read-out", label="μP, small read-out")


def held(depth: int) -> Parametrization:
    """Return IP-LLR whose first-step exponents are kept for ever, as a control."""
    llr = get("ip-llr")
    rows = tuple(
        (role, evolve(row, c=row.first(depth, 2), c_first=None))
        for role, row in llr.exponents
    )
    name = "large rates throughout"
    return evolve(llr, name=name, label=name, exponents=rows)


def table(
    name: str, trials: Sequence[int] = range(TRIALS), convention: str = "code"
) -> Iterator[Experiment]:
    """Yield the runs behind the tables of accuracies, trial after trial."""
    # With the text's convention only the models whose first layer has biases by design.
    models = MODELS if convention == "code" else ("ip", "ip-llr", "mup")
    for trial, activation, model in itertools.product(trials, ACTIVATIONS, models):
        yield experiment(
            model, activation, images(name), seed=trial, bias_convention=convention
        )


def ranks(name: str = "mnist", trials: Sequence[int] = (0,)) -> Iterator[Experiment]:
    """Yield the runs behind Figure 3: ranks of 5,000 inputs' features at step 1."""
    for trial, activation, model in itertools.product(
        trials, ACTIVATIONS, ("ip-llr", "mup")
    ):
        yield experiment(
            model,
            activation,
            images(name),
            seed=trial,
            steps=1,
            checkpoints=(1,),
            probes=(Rank(inputs=5000),),
        )


def without_cap(trials: Sequence[int] = (0,)) -> Iterator[Experiment]:
    """Yield IP-LLR on MNIST with no cap on its first-step rates (ours)."""
    for trial, activation in itertools.product(trials, ("gelu", "elu", "tanh")):
        yield experiment(
            "ip-llr",
            activation,
            images("mnist"),
            seed=trial,
            first_lr=Calibration(cap=float("inf")),
        )


@dataclass(frozen=True)
class FirstRates(Computed):
    """Calibrated rates of the first step of IP-LLR, without training (ours).

    Attributes:
        activation: a key of `DELTA`.
        width: size of the hidden layers.
        seed: of the network and its images (`few_images`).
        depth: number of hidden layers.
    """

    activation: str
    width: int
    seed: int
    depth: int = 3

    def run(self) -> pd.DataFrame:
        """Return the rates of each matrix, and where the cap binds."""
        size: dict[str, Any] = {"width": self.width, "depth": self.depth}
        data = few_images(self.seed)
        run = experiment("ip-llr", self.activation, data, seed=self.seed, **size)
        return first_rates([run])


@dataclass(frozen=True)
class Ties(Computed):
    r"""Predictions of untrained naive IP, from outputs and from softmax (ours).

    The authors take the class of the largest softmax probability, in float32. Outputs
    of size $10^{-9}$ have equal probabilities there, and the first class wins.

    Attributes:
        activation: a key of `DELTA`.
        seed: of the network and its images (`few_images`).
        width: size of the hidden layers.
    """

    activation: str
    seed: int
    width: int = 1024

    def run(self) -> list[dict[str, float]]:
        """Return the largest output, both accuracies and how often class 0 is named."""
        spec = experiment(
            "ip",
            self.activation,
            few_images(self.seed),
            seed=self.seed,
            width=self.width,
        )
        scales = Scales(*map(jnp.asarray, spec.scales()))
        network = untrained(spec.shape, scales, jax.random.key(self.seed))
        loaded = spec.data.load()
        outputs = network(jnp.asarray(loaded.x_test))
        softmax = jax.nn.softmax(outputs)
        right = jnp.asarray(loaded.y_test)
        named = jnp.argmax(softmax, axis=-1)
        return [
            {
                "largest output": float(jnp.abs(outputs).max()),
                "accuracy of outputs": float((outputs.argmax(-1) == right).mean()),
                "accuracy of softmax": float((named == right).mean()),
                "share of class 0": float((named == 0).mean()),
            }
        ]


def paper_tier() -> Iterator[Experiment]:
    """Yield every run at the paper's scale, the most telling first."""
    yield from ranks()
    yield from table("mnist", trials=range(2))
    yield from without_cap()
    yield from table("mnist", trials=(2,))
    yield from table("mnist", trials=(0,), convention="text")
    yield from table("mnist", trials=range(3, TRIALS))
    yield from table("mnist", trials=range(1, TRIALS), convention="text")
    yield from table("cifar10")
