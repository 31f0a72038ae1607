"""A Trainer that stops at any step is resumed with other settings, and loses no sample.

Batch size, number of ranks, workers, transform and accumulated batches differ before and after the
checkpoint. Ranks are real processes that talk over gloo.
"""

import itertools
import json
import random

import numpy as np
import pytest

from tests.faults.resumed_trainers import SAMPLES, SEED, VAL_SAMPLES, run_cases
from tests.orders import epoch_order

STOPS = 8
SETUPS = [
    dict(zip(("batch", "ranks", "workers", "transform", "accumulate"), values, strict=True))
    for values in itertools.product((3, 4, 8, 12), (1, 2), (0, 2), (False, True), (1, 2))
]
OPTIONS = [
    {},
    {"limit_train_batches": 0.75},
    {"limit_train_batches": 2},
    {"val_check_interval": 0.5},
    {"reload_dataloaders_every_n_epochs": 1},
]


def batches_of(setup):
    """Returns the number of batches in an epoch of a setup."""
    whole = -(-SAMPLES // (setup["batch"] * setup["ranks"]))
    limit = setup["options"].get("limit_train_batches", 1.0)
    return int(whole * limit) if isinstance(limit, float) else min(limit, whole)


def samples_of(setup):
    """Returns how many samples an epoch has; `limit_train_batches` may leave some out."""
    return min(SAMPLES, batches_of(setup) * setup["batch"] * setup["ranks"])


def places_of(setup, step):
    """Returns the places where a run has saved a checkpoint in a step."""
    done = step % batches_of(setup) + 1
    validates_every = max(1, int(batches_of(setup) * setup["options"].get("val_check_interval", 1)))
    places = ["within", "end"]
    if done % validates_every == 0:
        places += ["validating", "validated"]
    if done == batches_of(setup):
        places.append("epoch")
    return places


def make_cases(firsts, stops, drawn):
    """Returns for each first setup some stops, each with the setup of the resumed run."""
    cases = []
    for number, first in enumerate(firsts):
        first = {**first, "options": OPTIONS[number % len(OPTIONS)]}
        whole = 2 * batches_of(first)  # of two epochs
        steps = drawn.sample(range(whole), min(stops, whole))
        resumed = []
        for step in sorted(steps):
            setup = {**drawn.choice(SETUPS), "options": drawn.choice(OPTIONS)}
            if drawn.random() < 0.3:  # the same global batch: the order must be the same too
                setup |= {"batch": first["batch"], "ranks": first["ranks"]}
            epochs = step // batches_of(first) + 2  # the epoch of the stop, and one more
            place = drawn.choice(places_of(first, step))
            resumed.append({"step": step, "place": place, "epochs": epochs, "setup": setup})
        cases.append({"first": first, "stops": resumed})
    return cases


def results_of(programs, directory, cases):
    """Runs the cases in two ranks; returns the results of rank 0."""
    data = directory / "data"
    data.mkdir()
    for split, n in (("train", SAMPLES), ("val", VAL_SAMPLES)):
        np.savez(
            data / f"{split}_teacher.npz",
            images=np.zeros((n, 2, 2, 3), np.uint8),
            bboxes=np.zeros((n, 4), np.float32),
            image_paths=np.array([f"{i}.jpg" for i in range(n)]),
        )
    (directory / "cases.json").write_text(json.dumps(cases))
    log, results = directory / "log", directory / "results"
    status = programs.run_ranks(
        run_cases, log, ranks=2, cases=directory / "cases.json", results=results
    )
    assert status == 0, log.read_text()[-6000:]
    return [json.loads(line) for line in (directory / "results.0").read_text().splitlines()]


def check_stop(first, stop, whole, resumed):
    """Checks that a stopped and resumed epoch has each of its samples once, and so has the next."""
    setup, step = stop["setup"], stop["step"]
    epoch, done = divmod(step + (stop["place"] != "within"), batches_of(first))
    read = [i for _, samples in whole["steps"][epoch * batches_of(first) :][:done] for i in samples]
    order = epoch_order(SAMPLES, seed=SEED, epoch=epoch).tolist()
    assert read == order[: len(read)]
    rest = [samples for number, samples in resumed["steps"] if number == epoch]
    found = read + [i for samples in rest for i in samples]
    # An epoch that was over before the checkpoint stays over, also if it would be longer now.
    is_over = done == batches_of(first) or len(read) >= samples_of(setup)
    assert found == (read if is_over else order[: samples_of(setup)])
    same_step = setup["batch"] * setup["ranks"] == first["batch"] * first["ranks"]
    if same_step:
        sizes = [len(samples) for samples in rest]
        assert sizes == [setup["batch"] * setup["ranks"]] * len(rest)
    for later in range(epoch + 1, stop["epochs"]):
        found = [i for number, samples in resumed["steps"] if number == later for i in samples]
        assert found == epoch_order(SAMPLES, seed=SEED, epoch=later).tolist()[: samples_of(setup)]
    assert resumed["batches"] == batches_of(setup)
    assert all(samples == list(range(VAL_SAMPLES)) for samples in resumed["validated"])
    assert len(resumed["validated"]) >= stop["epochs"] - epoch - is_over


class Stop:
    """One stop of one case, named by its settings."""

    def __init__(self, case, result, number):
        self.arguments = (case["first"], case["stops"][number], result["whole"])
        self.resumed = result["resumed"][number]

    def __str__(self):
        first, stop, _ = self.arguments
        return f"{first} {stop}"


def check_all(tally, programs, directory, cases):
    results = results_of(programs, directory, cases)
    stops = []
    for case, result in zip(cases, results, strict=True):
        stops += [Stop(case, result, number) for number in range(len(case["stops"]))]
    tally.points, tally.seed = SAMPLES, SEED

    def check(stop):
        check_stop(*stop.arguments, stop.resumed)
        return "recovered"

    tally.each(stops, check)


def test_a_trainer_resumes_with_other_settings_and_loses_nothing(tally, programs, tmp_path):
    drawn = random.Random(SEED)
    check_all(tally, programs, tmp_path, make_cases(drawn.sample(SETUPS, 2), 3, drawn))


@pytest.mark.long
def test_a_trainer_with_any_settings_resumes_at_eight_steps_and_loses_nothing(
    tally, programs, tmp_path
):
    drawn = random.Random(SEED + 1)
    check_all(tally, programs, tmp_path, make_cases(SETUPS, STOPS, drawn))
