"""What the readings should reach, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on all readings of a part that are selected."""

    text: str
    part: str
    key: str
    bound: float
    select: Callable[[dict], bool]
    platforms: tuple[str, ...] = ("cpu", "gpu")
    at_least: bool = True

    def worst(self, report: dict[str, Any]) -> dict | None:
        """Return the selected reading that is furthest from the bound."""
        readings = report["parts"].get(self.part, {}).get("readings", [])
        found = [r for r in readings if self.select(r) and r.get(self.key) is not None]
        if not found:
            return None
        pick = min if self.at_least else max
        return pick(found, key=lambda reading: reading[self.key])

    def applies(self, report: dict[str, Any]) -> bool:
        return report["machine"]["platform"] in self.platforms

    def verdict(self, reading: dict | None) -> str:
        if reading is None:
            return "not measured"
        value = reading[self.key]
        is_met = value >= self.bound if self.at_least else value <= self.bound
        return "met" if is_met else "missed"


def of_square(platform: str, width: int, batch: int, bound: float) -> Target:
    return Target(
        text=f"single runs of width {width:,} or more, batches of {batch}: "
        "of the rate of a large product",
        part="training",
        key="of_square",
        bound=bound,
        platforms=(platform,),
        select=lambda r: (
            r["members"] == 1 and r["width"] >= width and r["batch"] == batch
        ),
    )


def sweep(platform: str, width: int, members: int, bound: float) -> Target:
    return Target(
        text=f"sweeps of {members} members at width {width}: "
        "times the faster of PyTorch's loops",
        part="training",
        key="ratio",
        bound=bound,
        platforms=(platform,),
        select=lambda r: r["members"] == members and r["width"] == width,
    )


SINGLE = Target(
    text="single runs: times the faster of PyTorch, eager and compiled",
    part="training",
    key="ratio",
    bound=1.0,
    select=lambda r: r["members"] == 1,
)
COMPILATION = Target(
    text="a chapter's first run: share of its time in which something is compiled",
    part="compilation",
    key="share",
    bound=0.25,
    at_least=False,
    select=lambda r: r["what"] != "sweep" and r["cache"] == "empty",
)
TARGETS: Sequence[Target] = (
    *(of_square("cpu", 1024, batch, 0.8) for batch in (64, 512)),
    *(of_square("gpu", 4096, batch, 0.6) for batch in (64, 512)),
    sweep("cpu", 64, 32, 6.0),
    sweep("cpu", 128, 32, 3.5),
    sweep("cpu", 256, 32, 2.0),
    *(sweep("gpu", width, 128, 30.0) for width in (64, 128, 256)),
    SINGLE,
    COMPILATION,
)
