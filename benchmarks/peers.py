"""The peers: what one would write in PyTorch for the same work.

*Eager* is `nn.Sequential`, `loss.backward()` and `torch.optim.SGD`. *Compiled* is one
`torch.compile`d function of forward pass, loss, gradients and update. *Batched* is the
same with all members in one `torch.func.vmap`. On a GPU the compiled ones use CUDA
graphs.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

# In this process, so that compiling is over when it returns.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import numpy as np
import torch
from common import square_matrix, timed

LR = 1e-3


def device() -> Any:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    """Wait for the device, which works on while Python goes on."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def prepare(threads: int) -> None:
    """Take the threads that JAX has, and true float32 products, as it does."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@functools.cache
def squaring() -> Callable[[], None]:
    """Return what squares a large matrix, as `common.square_rates` times it."""
    there = torch.from_numpy(square_matrix()).to(device())
    out = torch.empty_like(there)

    def product() -> None:
        torch.mm(there, there, out=out)
        wait()

    return product


def loss_of(weights: Sequence[Any], x: Any, y: Any) -> Any:
    for w in weights[:-1]:
        x = torch.tanh(x @ w)
    return torch.nn.functional.cross_entropy(x @ weights[-1], y)


def step(weights: Sequence[Any], x: Any, y: Any) -> Any:
    """Update weights in place by one step; return the loss before it.

    `w.add_(g, alpha=-LR)` compiles to wrong updates with PyTorch 2.13 on CPU.
    """
    gradients, loss = torch.func.grad_and_value(loss_of)(weights, x, y)
    for w, g in zip(weights, gradients, strict=True):
        w.copy_(w - LR * g)
    return loss


def step_of_all(weights: Sequence[Any], x: Any, y: Any) -> Any:
    """Update the stacked weights of all members."""
    one = torch.func.grad_and_value(loss_of)
    gradients, losses = torch.func.vmap(one)(weights, x, y)
    for w, g in zip(weights, gradients, strict=True):
        w.copy_(w - LR * g)
    return losses


@functools.cache
def compiled(function: Any) -> Any:
    """Compile a step; all members share the program."""
    mode = "reduce-overhead" if torch.cuda.is_available() else None
    return torch.compile(function, mode=mode, dynamic=False)


def forget_programs() -> None:
    """Drop compiled steps: PyTorch stops compiling a function after a few shapes."""
    compiled.cache_clear()
    torch.compiler.reset()


def graphs_left_out() -> int:
    """Return how many programs PyTorch did not turn into CUDA graphs."""
    return torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]


def on_device(weights: np.ndarray) -> Any:
    w = torch.from_numpy(np.array(weights, np.float32)).to(device())
    if torch.cuda.is_available():  # a CUDA graph updates in place what never moves
        torch._dynamo.mark_static_address(w, guard=False)
    return w


class Side:
    """A way to train; `advance` takes a number of steps with every member."""

    def __init__(self, case: Any, data: Any, weights: Sequence[Sequence[Any]]):
        self.case, self.losses = case, []
        self.x = torch.from_numpy(np.array(data.x_train)).to(device())
        self.y = torch.from_numpy(np.array(data.y_train)).long().to(device())
        self.position, self.steps = [0] * case.members, 1
        self.orders = self.all_orders()
        self.set(weights)

    def order(self) -> Any:
        return torch.randperm(len(self.x), device=device())

    def all_orders(self) -> Any:
        return torch.stack([self.order() for _ in range(self.case.members)])

    def set(self, weights: Sequence[Sequence[Any]]) -> None:
        """Start from these weights, one list of matrices for each member."""
        raise NotImplementedError

    def advance(self, steps: int) -> None:
        raise NotImplementedError

    def index(self, member: int) -> Any:
        """Return the next batch of a member, from epochs that permute."""
        per_epoch = len(self.x) // self.case.batch
        place = self.position[member] % per_epoch
        if place == 0:
            self.orders[member] = self.order()
        self.position[member] += 1
        start = place * self.case.batch
        return self.orders[member][start : start + self.case.batch]

    def get_ready(self, seconds: float) -> float:
        """Compile, choose the length of a reading, and return the first call's time."""
        first = timed(lambda: self._advance_and_wait(1))
        self._advance_and_wait(1)
        each = timed(lambda: self._advance_and_wait(1))
        self.steps = max(1, round(seconds / each))
        self._advance_and_wait(max(1, self.steps // 4))
        return first

    def reading(self) -> float:
        """Return the seconds of a step of all members."""
        return timed(lambda: self._advance_and_wait(self.steps)) / self.steps

    def _advance_and_wait(self, steps: int) -> None:
        self.losses.clear()
        self.advance(steps)
        wait()


class Eager(Side):
    """One member after another, as in PyTorch's tutorials."""

    def set(self, weights: Sequence[Sequence[Any]]) -> None:
        self.models = [self.model(w).to(device()) for w in weights]
        self.rules = [torch.optim.SGD(m.parameters(), LR) for m in self.models]

    @staticmethod
    def model(weights: Sequence[Any]) -> Any:
        layers: list[Any] = []
        for w in weights:
            linear = torch.nn.Linear(*w.shape, bias=False)
            linear.weight.data = torch.from_numpy(np.array(w, np.float32).T.copy())
            layers += [linear, torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    def advance(self, steps: int) -> None:
        for member, (model, rule) in enumerate(
            zip(self.models, self.rules, strict=True)
        ):
            for _ in range(steps):
                index = self.index(member)
                rule.zero_grad()
                outputs = model(self.x[index])
                loss = torch.nn.functional.cross_entropy(outputs, self.y[index])
                loss.backward()
                rule.step()
                self.losses.append(loss.detach())


class Compiled(Side):
    """One member after another, each step one compiled program."""

    def set(self, weights: Sequence[Sequence[Any]]) -> None:
        self.weights = [[on_device(w) for w in member] for member in weights]

    def advance(self, steps: int) -> None:
        program = compiled(step)
        for member, weights in enumerate(self.weights):
            for _ in range(steps):
                index = self.index(member)
                if torch.cuda.is_available():
                    torch.compiler.cudagraph_mark_step_begin()
                loss = program(weights, self.x[index], self.y[index])
                # A CUDA graph writes its next loss where this one is.
                self.losses.append(loss.clone())


class OneThread(Compiled):
    """The compiled loop on one thread, of which each core could run one."""

    def _advance_and_wait(self, steps: int) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the program is compiled anew, for one thread
        try:
            super()._advance_and_wait(steps)
        finally:
            torch.set_num_threads(threads)

    def reading(self) -> float:
        """Return seconds as if processes on all cores did not slow each other down."""
        at_once = min(torch.get_num_threads(), self.case.members)
        return super().reading() / at_once


class Batched(Side):
    """All members in one compiled program, their products batched."""

    def set(self, weights: Sequence[Sequence[Any]]) -> None:
        stacked = [np.stack(layer) for layer in zip(*weights, strict=True)]
        self.weights = [on_device(w) for w in stacked]

    def indices(self) -> Any:
        """Return the next batches of all members."""
        per_epoch = len(self.x) // self.case.batch
        place = self.position[0] % per_epoch
        if place == 0:
            self.orders = self.all_orders()
        self.position[0] += 1
        start = place * self.case.batch
        return self.orders[:, start : start + self.case.batch]

    def advance(self, steps: int) -> None:
        program = compiled(step_of_all)
        for _ in range(steps):
            index = self.indices()
            if torch.cuda.is_available():
                torch.compiler.cudagraph_mark_step_begin()
            losses = program(self.weights, self.x[index], self.y[index])
            self.losses.append(losses.clone())


def sides(members: int) -> dict[str, type[Side]]:
    """Return the sides that make sense for so many members."""
    chosen: dict[str, type[Side]] = {"eager": Eager, "compiled": Compiled}
    if members > 1:
        chosen["batched"] = Batched
        if not torch.cuda.is_available():
            chosen["processes"] = OneThread
    return chosen
