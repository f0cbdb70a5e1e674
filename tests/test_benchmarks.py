"""The benchmarks' arithmetic and their page; nothing is timed here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import common  # noqa: E402
import report  # noqa: E402
import widths  # noqa: E402
from common import Turn, busy_ticks, exponent, medians, slug  # noqa: E402
from compile_watch import Event, by_thread, covered, slowest  # noqa: E402
from targets import COMPILATION, SINGLE, TARGETS  # noqa: E402


def test_page_says_what_the_readings_say():
    assert report.is_current(), "run: python benchmarks/report.py"


def test_networks_that_are_checked_wide_are_those_of_the_page():
    page = widths.of_the_page()
    for case in widths.CASES.values():
        model = nnx.eval_shape(lambda case=case: page[case.build](64, nnx.Rngs(0)))
        loss = nnx.eval_shape(page["cross_entropy"], model, page[case.batch])
        assert loss.shape == ()


# --- fits


def test_a_power_law_is_found_exactly():
    x = [64, 128, 256, 512]
    fit = exponent(x, [3.0 * n**1.7 for n in x])
    assert fit.exponent == pytest.approx(1.7)
    assert fit.error == pytest.approx(0.0, abs=1e-6)


def test_the_standard_error_is_the_spread_of_fitted_exponents():
    x = 2.0 ** np.arange(6, 12)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (2000, len(x)))
    fits = [exponent(x, x**2 * np.exp(e)) for e in noise]
    spread = np.std([fit.exponent for fit in fits])
    mean_square = np.mean([fit.error**2 for fit in fits]) ** 0.5
    assert mean_square == pytest.approx(spread, rel=0.1)


def test_two_points_have_an_exponent_but_no_error():
    fit = exponent([1, 2], [4.0, 2.0])
    assert fit.exponent == pytest.approx(-1.0)
    assert fit.error is None


def test_one_point_has_no_exponent():
    with pytest.raises(ValueError, match="two different points"):
        exponent([8, 8], [1.0, 2.0])


# --- quiet moments


def turns(*pairs):
    return [Turn({"a": value}, disturbed) for value, disturbed in pairs]


def test_disturbed_turns_are_left_out():
    found = medians(turns((1.0, False), (9.0, True), (1.2, False), (8.0, True)))
    assert found.readings == {"a": pytest.approx(1.1)}
    assert (found.quiet, found.turns) == (2, 4)


def test_all_turns_count_where_too_few_were_quiet():
    found = medians(turns((1.0, False), (9.0, True), (8.0, True)))
    assert found.readings == {"a": 8.0}
    assert found.quiet == 1


def test_only_own_cores_are_watched():
    stat = (
        "cpu  30 0 30 200 20 0 0 0 0 0\n"
        "cpu0 10 1 10 100 10 0 0 0 0 0\n"
        "cpu1 20 0 20 100 10 2 0 0 7 0\n"
        "intr 5\n"
    )
    assert busy_ticks(stat, {0}) == 21
    assert busy_ticks(stat, {1}) == 42  # guests are counted among users
    assert busy_ticks(stat, {0, 1}) == 63


def test_alternating_sides_take_turns(monkeypatch):
    monkeypatch.setattr(common.Quiet, "seconds_left", 0.0)
    order = []

    def side(name):
        def reading():
            order.append(name)
            return 1.0

        return reading

    found = common.alternate({"a": side("a"), "b": side("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert [turn.readings for turn in found] == [{"a": 1.0, "b": 1.0}] * 2


# --- compilation


def test_time_that_is_covered_twice_counts_once():
    assert covered([(0.0, 2.0), (1.0, 3.0), (1.2, 1.4), (5.0, 6.0)]) == 4.0
    assert covered([]) == 0.0


def test_threads_add_up_but_nested_traces_do_not():
    events = [
        Event("trace", 1, 0.0, 1.0),
        Event("trace", 1, 0.5, 1.0),
        Event("backend", 2, 0.0, 2.0),
    ]
    assert by_thread(events, "trace", "backend") == 3.0
    assert by_thread(events, "backend") == 2.0


def test_programs_of_a_name_are_added_up():
    ends = [("f", 1.0), ("g", 1.5), ("f", 1.0)]
    events = [Event("backend", 1, 0.0, end, name) for name, end in ends]
    events.append(Event("trace", 1, 0.0, 9.0, "g"))
    assert slowest(events) == [
        {"name": "f", "programs": 2, "seconds": 2.0},
        {"name": "g", "programs": 1, "seconds": 1.5},
    ]


# --- the page


def single(width, ratio):
    return {"members": 1, "width": width, "batch": 64, "ratio": ratio}


def test_a_target_is_judged_by_its_worst_reading():
    found = {"parts": {"training": {"readings": [single(64, 2.0), single(128, 0.9)]}}}
    worst = SINGLE.worst(found)
    assert worst["width"] == 128
    assert SINGLE.verdict(worst) == "missed"
    assert SINGLE.verdict(single(64, 1.0)) == "met"
    assert SINGLE.verdict(SINGLE.worst({"parts": {}})) == "not measured"


def test_a_share_is_to_stay_below_its_bound():
    readings = [
        {"what": "sweep", "cache": "empty", "share": 0.9},
        {"what": "04", "cache": "empty", "share": 0.2},
        {"what": "04", "cache": "filled", "share": 0.1},
    ]
    worst = COMPILATION.worst({"parts": {"compilation": {"readings": readings}}})
    assert worst["share"] == 0.2
    assert COMPILATION.verdict(worst) == "met"


def test_every_target_stands_on_the_page_of_its_machines(tmp_path):
    facts = dict.fromkeys(report.FACTS, "x")
    for platform in ("cpu", "gpu"):
        found = {"machine": {**facts, "platform": platform}, "parts": {}}
        (tmp_path / f"{platform}.json").write_text(json.dumps(found))
    text = report.page(report.read(tmp_path))
    rows = [line for line in text.splitlines() if "not measured" in line]
    assert len(rows) == sum(len(target.platforms) for target in TARGETS)


def test_numbers_are_written_shortly():
    found = [report.number(v) for v in (None, 0.01234, 12.34, 999.9, 12345.6)]
    assert found == ["–", "0.0123", "12.3", "1,000", "12,300"]


def test_a_machine_is_named_by_its_devices():
    assert slug({"platform": "cpu", "cores": 2}) == "cpu-2-cores"
    gpu = {"platform": "gpu", "device": "NVIDIA H100 80GB HBM3", "devices": 1}
    assert slug(gpu) == "nvidia-h100-80gb-hbm3-x1"
