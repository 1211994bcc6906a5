"""How often does the false-reject contract raise a false alarm in months, and how soon does it see a change?

    python benchmarks/reject_contract.py

Simulated lines, a million parts each, with the tests, bounds and settings of the drift monitor (`reject_contract`; the
eight tests of a recorded source, 1,000,000 frames per false alarm). An alarm can only come with a reject, so the lines
jump from reject to reject: the gaps are geometric, and what the evidence does in between has a closed form.

False alarms: of lines whose rate is the bound itself, which is the worst that keeps the promise, and of lines whose
threshold comes from n drawn calibration scores, where the rate of false rejects is what that draw made it (Beta), half
as many parts are bad as stated, and every false reject is marked. Delays: parts from the moment that the rate of false
rejects doubles until the alarm, after 100,000 parts as they should be; where no alarm comes within a million, none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from machine import machine, write_result

from simplenet_edge.runtime.drift.change_detector import UNSURE, ChangeDetector
from simplenet_edge.runtime.drift.drift_monitor import DriftConfig
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.threshold import false_reject_bound, threshold_rank

LINES, PARTS, CALM = 1000, 1_000_000, 100_000
TESTS = 8  # of a recorded source: brightness, contrast, focus, picture, verdicts, marks, scores high and low
LOOKS = float(DriftConfig().frames_per_false_alarm * TESTS)
ALPHAS, BAD_SHARE, CALIBRATIONS = (0.01, 0.05), 0.01, (200, 1000, 5000)

Values = npt.NDArray[np.float64]


def run_lines(
    detector: ChangeDetector, rates: Values, parts: int, rng: np.random.Generator, evidence: Values | None = None
) -> tuple[Values, Values]:
    """The part with each line's first alarm, infinity without one, and its evidence `(n, alternatives)` at the end.

    `rates` `(n,)` are those of rejects, `evidence` what each line has against the detector's bound at the start.
    """
    inside, outside = (np.array(factors) for factors in detector.factors)
    state = np.zeros((len(rates), len(inside))) if evidence is None else evidence.copy()
    at, first = np.zeros(len(rates)), np.full(len(rates), np.inf)
    going = np.arange(len(rates))
    while len(going):
        gaps = np.minimum(rng.geometric(rates[going]), parts - at[going] + 1)
        at[going] += gaps
        power = inside ** (gaps - 1)[:, None]
        grown = state[going] * power + inside * (1 - power) / (1 - inside)
        hit = at[going] <= parts
        state[going] = np.where(hit[:, None], (grown + 1) * outside, grown)
        alarm = hit & (state[going].mean(1) >= detector.looks)
        first[going[alarm]] = at[going[alarm]]
        going = going[hit & ~alarm]
    return first, state


def false_alarms(bound: float, rates: Values, rng: np.random.Generator) -> dict[str, Any]:
    """The share of lines with an alarm within `PARTS` parts."""
    first, _ = run_lines(ChangeDetector(bound, LOOKS), rates, PARTS, rng)
    share = float(np.mean(np.isfinite(first)))
    return {"share": share, "standard_error": float(np.sqrt(share * (1 - share) / len(rates)))}


def delay(bound: float, before: float, after: float, rng: np.random.Generator) -> dict[str, Any]:
    """Parts from a change of the rate of rejects to the alarm, over the lines that were calm until then."""
    alarms, evidence = run_lines(ChangeDetector(bound, LOOKS), np.full(LINES, before), CALM, rng)
    calm = ~np.isfinite(alarms)
    first, _ = run_lines(ChangeDetector(bound, LOOKS), np.full(int(calm.sum()), after), PARTS, rng, evidence[calm])
    median, late = (float(np.quantile(first, share, method="higher")) for share in (0.5, 0.95))
    return {name: value if np.isfinite(value) else None for name, value in (("median", median), ("q95", late))}


def with_bad(share: float) -> float:
    """The rate of NG parts where this share of the good ones is rejected, and BAD_SHARE are bad."""
    return share + (1 - share) * BAD_SHARE


def main() -> None:
    """Run all and write the result."""
    rng = np.random.default_rng(0)
    at_bound, calibrated, delays = [], [], []
    for alpha in ALPHAS:
        for test, bound in (("marks", alpha), ("verdicts", with_bad(alpha))):
            found = false_alarms(bound, np.full(LINES, bound), rng)
            at_bound.append({"alpha": alpha, "test": test, "stated": PARTS / LOOKS, **found})
            after = 2 * alpha if test == "marks" else with_bad(2 * alpha)
            found = delay(bound, bound, after, rng)
            delays.append({"alpha": alpha, "n_calibration": None, "test": test, "promised": alpha, **found})
        for n in CALIBRATIONS:
            point = OperatingPoint(0.0, alpha, n, guaranteed=True)
            promised = false_reject_bound(point, 1 - UNSURE)
            rank = threshold_rank(n, alpha)
            drawn = rng.beta(n + 1 - rank, rank, LINES)
            bad = BAD_SHARE / 2
            for test, bound, rates in (
                ("marks", promised, drawn),
                ("verdicts", with_bad(promised), drawn + (1 - drawn) * bad),
            ):
                found = false_alarms(bound, rates, rng)
                stated = PARTS / LOOKS + UNSURE
                row = {"alpha": alpha, "n_calibration": n, "test": test, "promised": promised}
                calibrated.append({**row, "stated": stated, **found})
                before, after = (alpha, 2 * alpha) if test == "marks" else (with_bad(alpha), with_bad(2 * alpha))
                delays.append({**row, **delay(bound, before, after, rng)})
    write_result(
        "reject_contract",
        {
            "machine": machine("numpy"),
            "lines": LINES,
            "parts": PARTS,
            "frames_per_false_alarm": DriftConfig().frames_per_false_alarm,
            "tests": TESTS,
            "bad_share": BAD_SHARE,
            "false_alarms_at_the_bound": at_bound,
            "false_alarms_as_calibrated": calibrated,
            "parts_until_doubled_false_rejects_are_seen": delays,
        },
    )


if __name__ == "__main__":
    main()
