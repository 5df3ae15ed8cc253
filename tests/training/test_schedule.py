"""Learning rates (section 4.1): functions of the step and the validation errors so far."""

from math import cos, pi

import pytest

from stmn.training.schedule import Schedule


def rates(schedule: Schedule, errors: tuple[float, ...] = ()) -> list[float]:
    return [schedule.rate_at(step, errors) for step in range(schedule.steps)]


def test_steps_divides_by_10_at_each_milestone():
    schedule = Schedule("steps", rate=1e-3, steps=40, milestones=(20, 30))
    assert rates(schedule) == pytest.approx([1e-3] * 20 + [1e-4] * 10 + [1e-5] * 10)
    assert not schedule.saturated([0.5] * 100)  # it ends after its steps, whatever the error does


def test_cosine_warms_up_then_falls_to_0_along_a_cosine():
    schedule = Schedule("cosine", rate=0.4, steps=200)
    found = rates(schedule)
    assert found[:10] == pytest.approx([0.04 * (step + 1) for step in range(10)])
    assert found[10:] == pytest.approx([0.2 * (1 + cos(pi * step / 190)) for step in range(190)])
    assert max(found) == 0.4 and 0 < found[-1] < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3, 19])
def test_cosine_works_for_the_shortest_trainings(steps):
    assert all(0 < rate <= 0.4 for rate in rates(Schedule("cosine", rate=0.4, steps=steps)))


def test_plateau_lowers_twice_and_ends_the_third_time():
    schedule = Schedule("plateau", rate=1e-2, steps=10**6, patience=3)
    falling = [0.9, 0.8, 0.7]
    after = {  # validations without a new best -> rate
        0: 1e-2, 2: 1e-2, 3: 1e-3, 5: 1e-3, 6: 1e-4, 8: 1e-4, 9: 1e-4,
    }  # fmt: skip
    for stale, rate in after.items():
        errors = falling + [0.7] * stale  # an equal error is no improvement
        assert schedule.rate_at(5, errors) == pytest.approx(rate)
        assert schedule.saturated(errors) == (stale >= 9)


def test_plateau_counts_again_after_each_new_best():
    schedule = Schedule("plateau", rate=1e-2, steps=100, patience=3)
    assert schedule.rate_at(0, []) == 1e-2
    errors = [0.9, 0.95, 0.95, 0.8, 0.85, 0.85, 0.79]  # never three in a row
    assert schedule.rate_at(50, errors) == 1e-2
    lowered = [*errors, 0.8, 0.8, 0.8, 0.5]
    assert schedule.rate_at(50, lowered) == pytest.approx(1e-3)  # a new best does not raise the rate again
    assert schedule.rate_at(50, [*lowered, 0.6, 0.6]) == pytest.approx(1e-3)
    assert schedule.rate_at(50, [*lowered, 0.6, 0.6, 0.6]) == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["plateau", "steps", "cosine"])
def test_resumed_run_has_the_same_rates(name):
    errors = [0.9, 0.7, 0.7, 0.7, 0.6]
    first = Schedule(name, rate=0.1, steps=60, milestones=(20, 40), patience=2)
    resumed = Schedule(name, rate=0.1, steps=60, milestones=(20, 40), patience=2)
    expected = rates(first, errors)
    assert [resumed.rate_at(step, list(errors)) for step in range(30, 60)] == expected[30:]
