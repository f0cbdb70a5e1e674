"""A prediction: numbers that theory gives, once, for the checks and for the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import attrs

from widthlab.claims.check import RELATIONS, SYMBOLS, Check
from widthlab.claims.estimates import ClaimError, Estimate
from widthlab.fields import choice, either, instance, number, optional, text

_FINITE, _TOLERANCE = number(), number(least=0)


@attrs.frozen
class Bound:
    """What theory says of one number; made by `equals`, `at_most` and `at_least`.

    Attributes:
        relation: "equals", "at_most" or "at_least".
        number: The number.
        within: Tolerance of this case, where it is not that of the prediction.
    """

    _refusal: ClassVar = ClaimError

    relation: str = attrs.field(converter=choice(RELATIONS))
    number: float = attrs.field(converter=_FINITE)
    within: float | None = attrs.field(default=None, converter=optional(_TOLERANCE))

    def __str__(self) -> str:
        return f"{SYMBOLS[self.relation]} {self.number:g}"


def equals(number: float, within: float | None = None) -> Bound:
    """Predict a number; a bare number means the same."""
    return Bound("equals", number, within)


def at_most(number: float, within: float | None = None) -> Bound:
    """Predict that a measurement does not exceed a number."""
    return Bound("at_most", number, within)


def at_least(number: float, within: float | None = None) -> Bound:
    """Predict that a measurement does not fall below a number."""
    return Bound("at_least", number, within)


@attrs.frozen
class Prediction:
    """What theory predicts for one quantity, from which checks and lines come.

    A case is a label or a tuple: a series and the panel of a figure in which it is
    drawn, `("mup", 2)`, as `slopes` has them for its keys.

    Attributes:
        quantity: What is measured ("slope of feature change").
        expected: The bound of each case, the headline first; or one bound for all.
        within: Tolerance, at least 0; its origin is stated by the claim.

    Raises:
        ClaimError: There is no case.

    >>> moves = Prediction(
    ...     "slope", {("mup", 2): 0.0, ("ntk", 2): -0.5, ("ip", 2): at_least(0)}, 0.25
    ... )
    >>> measured = {("mup", 2): Estimate(0.02, -0.1, 0.1, seeds=4),
    ...             ("ntk", 2): Estimate(-0.51, -0.6, -0.4, seeds=4),
    ...             ("ip", 2): Estimate(0.4, 0.3, 0.5, seeds=4)}
    >>> for check in moves.checks(measured, "{}, layer {}", names={"mup": "μP"}):
    ...     print(f"{check.label}: {check.relation} {check.predicted}")
    μP, layer 2: equals 0.0
    ntk, layer 2: equals -0.5
    ip, layer 2: at_least 0.0
    >>> moves.check("NTP judged as μP", measured["ntk", 2], ("mup", 2)).outcome()
    <Outcome.FAIL: 'fail'>
    >>> moves.lines()
    {2: {'mup': 0.0, 'ntk': -0.5}}
    """

    _refusal: ClassVar = ClaimError

    quantity: str = attrs.field(converter=text())
    expected: Mapping[Any, Bound | float] | Bound | float = attrs.field(
        converter=either(instance(Mapping, Bound), _FINITE)
    )
    within: float = attrs.field(default=0.0, converter=_TOLERANCE)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.expected, Mapping) and not self.expected:
            raise ClaimError(f"nothing is predicted for {self.quantity!r}")

    def bound(self, case: Any = None) -> Bound:
        """Return what is predicted for a case; of the only bound, for any.

        Raises:
            ClaimError: No such case, or none is named and there are several.
        """
        expected = self.expected
        if isinstance(expected, Mapping):
            if case not in expected:
                raise ClaimError(
                    f"{self.quantity!r} is predicted for {[*expected]}, "
                    f"not for {case!r}"
                )
            expected = expected[case]
        return expected if isinstance(expected, Bound) else equals(expected)

    def endpoint(self, label: str, case: Any = None) -> Check:
        """Return the check of a case before it is measured: what a claim states."""
        return self.check(label, None, case)

    def check(self, label: str, estimate: Estimate | None, case: Any = None) -> Check:
        """Judge one measurement as this prediction has it for a case.

        Args:
            label: What was measured.
            estimate: The measurement; None where there is none yet.
            case: As which case, where the prediction has several.
        """
        bound = self.bound(case)
        within = self.within if bound.within is None else bound.within
        return Check(
            label, self.quantity, bound.relation, bound.number, within, estimate
        )

    def checks(
        self,
        estimates: Mapping[Any, Estimate | None],
        label: str | Callable[[Any], str] = "{}",
        names: Mapping[Any, str] | None = None,
    ) -> list[Check]:
        """Return a check for each case, in order; of one bound, for each estimate.

        Args:
            estimates: Measurements by case; further ones are left alone.
            label: What to call a case: a format that its parts fill ("{}, hidden layer
                {}"), or a function of the case.
            names: What to call a part, such as `plots.LABELS`.

        Raises:
            ClaimError: A case has no estimate.
        """
        cases = self.expected if isinstance(self.expected, Mapping) else estimates
        missing = [case for case in cases if case not in estimates]
        if missing:
            raise ClaimError(
                f"{self.quantity!r} is predicted for {missing}, which was not "
                f"measured; there is {[*estimates]}"
            )
        return [
            self.check(_name(case, label, names), estimates[case], case)
            for case in cases
        ]

    def each(self, *values: Any) -> Prediction:
        """Return it for several values of one more part of the case, such as arms.

        >>> Prediction("slope", {("mup", 2): 0.0}).each("live", "paper").expected
        {('mup', 2, 'live'): 0.0, ('mup', 2, 'paper'): 0.0}

        Raises:
            ClaimError: The prediction has no cases.
        """
        if not isinstance(self.expected, Mapping):
            raise ClaimError(f"{self.quantity!r} has one bound and no cases to repeat")
        cases = {
            (*_parts(case), value): bound
            for value in values
            for case, bound in self.expected.items()
        }
        return Prediction(self.quantity, cases, self.within)

    def of(self, *series: Any) -> Prediction:
        """Return what it says of some series: a figure may draw more than is judged.

        >>> Prediction("slope", {("ip", 2): -0.5, ("mup", 2): 0.0}).of("ip").expected
        {('ip', 2): -0.5}

        Raises:
            ClaimError: There is no case of them.
        """
        cases = self.expected if isinstance(self.expected, Mapping) else {}
        if missing := {*series} - {_parts(case)[0] for case in cases}:
            raise ClaimError(
                f"{self.quantity!r} is predicted for {[*cases]}, with no case of "
                f"{sorted(missing, key=str)}"
            )
        kept = {case: b for case, b in cases.items() if _parts(case)[0] in series}
        return Prediction(self.quantity, kept, self.within)

    def lines(self, names: Mapping[Any, Any] | None = None) -> dict[Any, Any]:
        """Return predicted slopes as figures draw them; no line where there is a bound.

        Args:
            names: What the figure calls a series.

        Returns:
            Of cases (series, panel): panel to series to slope, for `small_multiples`;
            further parts make the panel a tuple. Of plain cases: series to slope, for
            `against_width`.
        """
        renamed, drawn = names or {}, dict[Any, Any]()
        for (series, *panel), slope in self._exact():
            row = drawn
            if panel:
                key = panel[0] if len(panel) == 1 else tuple(panel)
                row = drawn.setdefault(key, {})
            row[renamed.get(series, series)] = slope
        return drawn

    def _exact(self) -> Iterator[tuple[tuple[Any, ...], float]]:
        """Parts and number of each case for which a number itself is predicted."""
        if not isinstance(self.expected, Mapping):
            raise ClaimError(f"{self.quantity!r} has one bound and no cases to draw")
        for case in self.expected:
            bound = self.bound(case)
            if bound.relation == "equals":
                yield _parts(case), bound.number


def _name(
    case: Any, label: str | Callable[[Any], str], names: Mapping[Any, str] | None
) -> str:
    """What a label calls a case."""
    if callable(label):
        return label(case)
    renamed = names or {}
    return label.format(*(renamed.get(part, part) for part in _parts(case)))


def _parts(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)
