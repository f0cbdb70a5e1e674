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
from typing import TYPE_CHECKING, Any

from attrs import evolve

from widthlab.data import DataSpec
from widthlab.parametrization import Parametrization, get
from widthlab.probes import Performance, Rank
from widthlab.runs.computed import Computed
from widthlab.runs.ensembles import first_rates
from widthlab.runs.experiment import Experiment
from widthlab.training.calibration import Calibration

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


def small(model: str, activation: str, seed: int, **settings: Any) -> Experiment:
    """Return a run of the same set-up at the size of a laptop, any field replaced."""
    size = {"width": 128, "steps": 200, "checkpoints": (200,)} | settings
    return experiment(model, activation, images("mnist-5k"), seed=seed, **size)


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
        depth: number of hidden layers.
        seeds: how many networks, of seeds from 0 on.
        data: name of the images.
    """

    activation: str
    width: int
    depth: int = 3
    seeds: int = 6
    data: str = "mnist-5k"

    def run(self) -> pd.DataFrame:
        """Return the rates of each matrix and seed, and where the cap binds."""
        size: dict[str, Any] = {"width": self.width, "depth": self.depth}
        return first_rates(
            experiment("ip-llr", self.activation, images(self.data), seed=s, **size)
            for s in range(self.seeds)
        )


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
