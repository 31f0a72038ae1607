"""Tally: what a fault test tried, what came of it, and how to repeat one case of it."""

import os
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

REPLAY_VARIABLE = "FAULT_CASE"
PROPERTY = "fault counts"  # of a test's report: its row
OUTCOMES = {
    "detected": "the fault was reported, with an error that names it",
    "recovered": "the work was done all the same, with equal bytes",
    "unaffected": "nothing that is stored or read was changed by it",
}
_BEGIN, _END = "<!-- tally:begin -->", "<!-- tally:end -->"
_TITLES = ("test", "points", "states", *OUTCOMES, "false alarms", "seed", "seconds", "a case")


class FalseAlarm(AssertionError):
    """A sound case was reported as faulty."""


@dataclass
class Tally:
    """Counts of one test.

    Args:
        test: its node id.
        points: distinct places where something was made to fail: system calls, bytes, inputs.
        states: cases tried; a point can be tried in several ways.
        outcomes: by name of `OUTCOMES`, cases.
        false_alarms: sound cases that were reported as faulty; with any the test fails.
        seed: of what was drawn at random; None where nothing was.
        seconds: wall time.
        example: the last case, as `FAULT_CASE` names it.
        failed: whether a case failed; such a test is not published.
    """

    test: str
    points: int = 0
    states: int = 0
    outcomes: Counter = field(default_factory=Counter)
    false_alarms: int = 0
    seed: int | None = None
    seconds: float = 0.0
    example: str = ""
    failed: bool = False

    def each(self, cases, check):
        """Runs ``check(case)``, which returns the name of an outcome, for each case.

        A case is named by its `str`. Where the environment's FAULT_CASE names one, only that one is
        run. What `check` raises is raised, with a note that says how to repeat it; a `FalseAlarm`
        after all cases, so that they are counted.
        """
        wanted, first_alarm = os.environ.get(REPLAY_VARIABLE), None
        for case in cases:
            if wanted not in (None, str(case)):
                continue
            try:
                outcome = check(case)
            except BaseException as error:
                self.failed = True
                error.add_note(f"replay: {self._replay(str(case))}")
                if not isinstance(error, FalseAlarm):
                    raise
                first_alarm = first_alarm or error
                self.false_alarms += 1
                continue
            assert outcome in OUTCOMES, outcome
            self.outcomes[outcome] += 1
            self.states += 1
            self.example = str(case)
        if first_alarm is not None:
            raise AssertionError(f"{self.false_alarms} false alarms") from first_alarm
        assert self.states, f"no case is named {wanted!r}"

    def _replay(self, case):
        variable = f"{REPLAY_VARIABLE}={shlex.quote(case)} " if case else ""
        return f"{variable}python -m pytest -m 'long or not long' '{self.test}'"

    def row(self):
        """The cells of the published table, by title."""
        outcomes = [f"{self.outcomes[name]:,}" for name in OUTCOMES]
        seed = "" if self.seed is None else str(self.seed)
        counts = (f"{self.points:,}", f"{self.states:,}", *outcomes, f"{self.false_alarms:,}")
        name = self.test.removeprefix("tests/faults/")
        case = f"`{self.example}`" if self.example else ""
        return (name, *counts, seed, f"{self.seconds:.1f}", case)


def publish(rows, page):
    """Puts these rows into a page's table; those of other tests stay."""
    before, _, rest = Path(page).read_text().partition(_BEGIN)
    table, _, after = rest.partition(_END)
    lines = {line.split(" | ")[0]: line for line in table.splitlines() if ".py::" in line}
    for row in rows:
        line = "| " + " | ".join(row) + " |"
        lines[line.split(" | ")[0]] = line
    align = [":--", *["--:"] * (len(_TITLES) - 2), ":--"]
    head = ["| " + " | ".join(_TITLES) + " |", "| " + " | ".join(align) + " |"]
    page_lines = [before + _BEGIN, *head, *(lines[name] for name in sorted(lines)), _END + after]
    Path(page).write_text("\n".join(page_lines))
