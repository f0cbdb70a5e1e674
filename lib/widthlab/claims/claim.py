"""Claims and the verdicts that measurements give them.

A `Claim` states, before anything is run, the one number that decides it: its primary
endpoint, with the power of the design. A measurement makes it a `Judgement`, whose JSON
form is one object of `results/claims.json`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs

from widthlab.canonical import digest
from widthlab.claims.check import Check, Outcome, holm
from widthlab.claims.estimates import ClaimError, Estimate
from widthlab.claims.power import Plan
from widthlab.claims.verdict import (
    OF_CHECKS,
    OF_CONTROLS,
    OF_OUTCOME,
    Verdict,
    _counted,
)
from widthlab.fields import choice, instance, optional, several, text
from widthlab.fields import truth as flag

_CHECKS = several(instance(Check))
_WORDS = instance(str, called="a text, empty where there is nothing to say")
TIERS = ("live", "paper")

_DIGITS = 4
"""Significant digits that are stored: more would change from machine to machine."""


@attrs.frozen(kw_only=True)
class Claim:
    """One statement, as tested in one tier, with what decides it.

    Attributes:
        id: Chapter key and number, "mup.C1".
        chapter: File stem of the chapter, "01-mup-global-convergence".
        paper: Key in references.bib.
        statement: The claim in our words.
        source: Where in the paper it stands, or "abstract"; of a claim of ours, what
            it follows from or answers.
        ours: Whether the claim is this book's and not the paper's.
        tier: "live" or "paper".
        primary: The primary endpoint, not measured yet: a sign, an ordering or an
            equality in the paper's own words. It alone decides.
        tolerance_origin: Why its tolerance is what it is.
        plan: How often it is measured, with the spread that was expected; None for
            what is no sample (an identity, or what every single run must reach).
        exploratory: What of this was set after a first look at the data; empty if
            nothing was.

    Raises:
        ClaimError: An empty field, a malformed id, an unknown tier, an endpoint that
            is measured already, or a plan whose power cannot be computed.
    """

    _refusal: ClassVar = ClaimError

    id: str = attrs.field(converter=text())
    chapter: str = attrs.field(converter=text())
    paper: str = attrs.field(converter=text())
    statement: str = attrs.field(converter=text())
    source: str = attrs.field(converter=text())
    ours: bool = attrs.field(default=False, converter=flag())
    tier: str = attrs.field(converter=choice(TIERS))
    primary: Check = attrs.field(converter=instance(Check))
    tolerance_origin: str = attrs.field(converter=text())
    plan: Plan | None = attrs.field(
        default=None, converter=optional(instance(Plan), "for what is no sample")
    )
    exploratory: str = attrs.field(default="", converter=_WORDS)

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][\w-]*\.[A-Za-z0-9]+", self.id, re.ASCII):
            raise ClaimError(
                f"a claim id is a chapter key, a dot and a number, as 'mup.C1'; "
                f"got {self.id!r}"
            )
        if self.primary.estimate is not None:
            raise ClaimError(
                f"the primary endpoint of {self.id} is measured already; state it "
                "without an estimate, and give that to judge()"
            )
        _ = self.power

    @property
    def anchor(self) -> str:
        """Name of the claim's section in its chapter, "mup-c1"."""
        return self.id.lower().replace(".", "-")

    @functools.cached_property
    def power(self) -> float | None:
        """Probability that the endpoint passes if the plan's supposition is true."""
        return self.plan and self.plan.power(self.primary)

    @property
    def stated(self) -> str:
        """Digest of what was stated before: what a later change changes."""
        names = ("id", "tier", "statement", "ours", "tolerance_origin", "exploratory")
        primary = self.primary.rounded(_DIGITS).to_json()
        plan = {"plan": self.plan and self.plan.to_json()}
        return digest({name: getattr(self, name) for name in names} | primary | plan)

    def judge(
        self,
        estimate: Estimate | None,
        secondary: Sequence[Check] = (),
        controls: Mapping[str, Estimate] | None = None,
    ) -> Judgement:
        """Return the verdict from the measured endpoint.

        Args:
            estimate: The primary endpoint, measured; None where it was not.
            secondary: Further checks, which qualify the verdict and never turn it.
            controls: The same endpoint, measured on cases that are broken on purpose,
                by what is broken: another run, another table, another task. It must
                fail on each.

        Raises:
            ClaimError: What `Judgement` refuses.
        """
        broken = controls or {}
        return Judgement(
            claim=self,
            primary=attrs.evolve(self.primary, estimate=estimate),
            secondary=tuple(secondary),
            controls=tuple(
                attrs.evolve(self.primary, label=label, estimate=measured)
                for label, measured in broken.items()
            ),
        )


@attrs.frozen(kw_only=True)
class Judgement:
    """A claim with its endpoint measured, and what else was measured.

    Attributes:
        claim: What was stated before.
        primary: The primary endpoint with its estimate.
        secondary: Further checks.
        controls: The primary endpoint on broken cases.
        commit: The commit in which the endpoint was first stated in this form; empty
            where that is not known.

    Raises:
        ClaimError: The interval is not what the plan is about, a check is repeated, or
            a control judges an estimate that a check has judged already, or its
            negative or reciprocal: such a control is a complement, which cannot fail
            on its own.
    """

    _refusal: ClassVar = ClaimError

    claim: Claim = attrs.field(converter=instance(Claim))
    primary: Check = attrs.field(converter=instance(Check))
    secondary: tuple[Check, ...] = attrs.field(default=(), converter=_CHECKS)
    controls: tuple[Check, ...] = attrs.field(default=(), converter=_CHECKS)
    commit: str = attrs.field(default="", converter=_WORDS)

    def __attrs_post_init__(self) -> None:
        self._refuse_an_unplanned_sample()
        checks = (self.primary, *self.secondary)
        for group in (checks, self.controls):
            names = [(check.label, check.quantity) for check in group]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ClaimError(
                    f"claim {self.claim.id} repeats {sorted(twice)}; a check counted "
                    "twice would weigh twice"
                )
        for control in self.controls:
            for check in checks:
                if _mirrors(control.estimate, check.estimate):
                    raise ClaimError(
                        f"control {control.label!r} of {self.claim.id} judges the "
                        f"estimate of the check {check.label!r} ({check.quantity}): it "
                        "cannot fail on its own. A control is another run, another "
                        "table or another task; where there is none, give none"
                    )

    def _refuse_an_unplanned_sample(self) -> None:
        plan, estimate = self.claim.plan, self.primary.estimate
        if estimate is None or not (plan or estimate.samples):
            return
        if plan is None:
            raise ClaimError(
                f"the primary endpoint of {self.claim.id} is a sample of "
                f"{estimate.seeds}; its claim needs a plan (seeds and spread)"
            )
        kind = "log-t" if plan.log else "t"
        if (plan.seeds, kind) != (estimate.seeds, estimate.kind):
            raise ClaimError(
                f"{self.claim.id} was planned with {plan.seeds} seeds, log={plan.log}, "
                f"and is judged on a {estimate.kind} interval of {estimate.seeds}; "
                "state the plan anew"
            )

    @property
    def verdict(self) -> Verdict:
        """The verdict: what the primary endpoint came to.

        A pass counts only if every control fails; otherwise the endpoint has not
        shown that it can tell. A statement about every run is refuted by one of them;
        a control of it fails only if no run of the broken case satisfies it.
        """
        outcome = self.primary.outcome()
        of_every_run = self.primary.estimate and self.primary.estimate.kind == "range"
        if of_every_run and outcome is Outcome.OPEN:
            outcome = Outcome.FAIL
        verdict = OF_OUTCOME[outcome]
        fails = all(c.outcome() is Outcome.FAIL for c in self.controls)
        if verdict is Verdict.REPRODUCED and not fails:
            return Verdict.UNDECIDED
        return verdict

    @functools.cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Outcomes of the secondary checks, adjusted together."""
        return tuple(holm(self.secondary))

    def qualification(self) -> str:
        """Return what the secondary checks add, "3 of 21 secondary checks open"."""
        total = len(self.secondary)
        if not total:
            return "no secondary checks"
        rest = _counted(self.outcomes, OF_CHECKS)
        noun = f"secondary check{'s' * (total > 1)}"
        if not rest:
            return f"{total} {noun}, none open"
        return f"of {total} {noun} {', '.join(rest)}"

    def to_decide(self) -> str:
        """Return what would decide an undecided claim; empty for any other."""
        if self.verdict is not Verdict.UNDECIDED or self.primary.estimate is None:
            return ""
        if self.primary.outcome() is Outcome.PASS:
            return "a control that fails"
        value = self.primary.estimate.value
        low, high = self.primary.bounds()
        if not low < value < high:
            return "more seeds can only refute it: the estimate is outside the band"
        seeds = Plan.of(self.primary.estimate, value).seeds_for(self.primary)
        if seeds is None:
            return "a wider margin: the estimate is too near its end for any seeds"
        return f"about {seeds} seeds, if the true value is the measured one"

    def unmeasured(self, tier: str) -> Self:
        """Return the claim in another tier, with the same checks, not measured yet.

        Controls are left out: they are chosen when there is something to judge.
        """
        bare = functools.partial(attrs.evolve, estimate=None)
        return type(self)(
            claim=attrs.evolve(self.claim, tier=tier),
            primary=bare(self.primary),
            secondary=tuple(map(bare, self.secondary)),
        )

    def line(self) -> str:
        """Return the line a chapter prints and nbval compares: the verdict alone.

        No number is in it: on another processor a digit may come out otherwise
        without turning the verdict.

        >>> from widthlab.claims.estimates import exact
        >>> claim = Claim(id="mup.C1", chapter="01-mup", paper="chen2025", tier="live",
        ...               statement="Features move.", source="abstract",
        ...               tolerance_origin="seed spread",
        ...               primary=Check("μP", "slope", "equals", 0.0, 0.1))
        >>> print(claim.judge(exact(0.06), controls={"NTP": exact(-0.5)}).line())
        mup.C1 reproduced
        """
        tier = "" if self.claim.tier == "live" else f" ({self.claim.tier} tier)"
        return f"{self.claim.id}{tier} {self.verdict.value}"

    def control_line(self) -> str:
        """Return what became of the negative controls, in one line."""
        if not self.controls:
            return "no control"
        outcomes = [control.outcome() for control in self.controls]
        rest = _counted(outcomes, OF_CONTROLS)
        tail = f" ({', '.join(rest)})" if rest else ""
        failed = outcomes.count(Outcome.FAIL)
        return f"control fails as it must {failed}/{len(outcomes)}{tail}"

    def rounded(self) -> Self:
        """Return it in 4 significant digits.

        Where rounding would turn an outcome, in as many more as keep it: the published
        numbers imply the published verdict.
        """
        for digits in range(_DIGITS, 17):
            candidate = attrs.evolve(
                self,
                claim=attrs.evolve(
                    self.claim, primary=self.claim.primary.rounded(digits)
                ),
                primary=self.primary.rounded(digits),
                secondary=tuple(check.rounded(digits) for check in self.secondary),
                controls=tuple(check.rounded(digits) for check in self.controls),
            )
            if candidate._all_outcomes() == self._all_outcomes():
                return candidate
        return self

    def _all_outcomes(self) -> list[Outcome]:
        alone = [self.primary.outcome(), *(c.outcome() for c in self.controls)]
        return [*alone, *self.outcomes]

    def to_json(self) -> dict[str, Any]:
        """Return the claim's object in results/claims.json."""
        return self.rounded()._json()

    def _json(self) -> dict[str, Any]:
        power = self.claim.power
        return {
            **{name: getattr(self.claim, name) for name in _STATED},
            "plan": self.claim.plan and self.claim.plan.to_json(),
            "power": power if power is None else round(power, 3),
            "commit": self.commit,
            "primary": _with_outcome(self.primary, self.primary.outcome()),
            "secondary": [*map(_with_outcome, self.secondary, self.outcomes)],
            "controls": [_with_outcome(c, c.outcome()) for c in self.controls],
            "verdict": self.verdict.value,
            "qualification": self.qualification(),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Return the judgement that `to_json` wrote.

        Raises:
            ClaimError: A key is missing or unknown, or the stored verdict is not the
                one that the stored numbers imply (the file was edited by hand).
        """
        if differing := _KEYS.symmetric_difference(entry):
            raise ClaimError(
                f"claim {entry.get('id')!r} has missing or unknown keys: "
                f"{', '.join(sorted(differing))}"
            )
        primary = Check.from_json(entry["primary"])
        claim = Claim(
            **{name: entry[name] for name in _STATED},
            plan=entry["plan"] and Plan.from_json(entry["plan"]),
            primary=attrs.evolve(primary, estimate=None),
        )
        judgement = cls(
            claim=claim,
            primary=primary,
            secondary=tuple(map(Check.from_json, entry["secondary"])),
            controls=tuple(map(Check.from_json, entry["controls"])),
            commit=entry["commit"],
        )
        implied = judgement._json()  # rounded once: twice may be another number
        changed = [name for name in implied if implied[name] != entry[name]]
        if changed:
            raise ClaimError(
                f"claim {claim.id} ({claim.tier}): stored {', '.join(changed)} do not "
                "follow from the stored checks; claims are written by running the "
                "chapter, never by hand"
            )
        return judgement


_STATED = tuple(
    name for name in attrs.fields_dict(Claim) if name not in ("primary", "plan")
)
_KEYS = {
    *_STATED,
    *("plan", "power", "commit", "primary", "secondary", "controls"),
    *("verdict", "qualification"),
}


def _mirrors(one: Estimate | None, other: Estimate | None) -> bool:
    """Whether two estimates are of the same numbers, as they are or turned over."""
    if one is None or other is None or one is other:
        return one is not None and one is other
    low, value, high = other.low, other.value, other.high
    if low == high:
        return False  # that two runs agree on one number may be chance
    turned = [(low, value, high), (-high, -value, -low)]
    if low > 0:
        turned.append((1 / high, 1 / value, 1 / low))
    close = functools.partial(math.isclose, rel_tol=1e-9)
    return any(all(map(close, (one.low, one.value, one.high), t)) for t in turned)


def _with_outcome(check: Check, outcome: Outcome) -> dict[str, Any]:
    return check.to_json() | {"outcome": outcome.value}
