"""The learning rate: warm-up, its share by processes, and that it is a function of the step."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState, PartialState
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from core.options import PRESETS, TrainOptions
from core.training.build import make_optimizer, make_schedule


def one_weight(lr: float) -> Optimizer:
    return make_optimizer({"lr": {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr}})


def rates(
    lr: float, warmup: int, total: int, step: int = 0, last: int | None = None, processes: int = 1, share: bool = True
) -> list[float]:
    """Learning rates of the steps from ``step`` to ``last`` - 1, the run's end by default."""
    optimizer = one_weight(lr)
    options = TrainOptions(lr=lr, warmup_steps=warmup, share_warmup=share)
    schedule = make_schedule(optimizer, [lr], options, total, step, processes)
    found = []
    for _ in range(step, last or total):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_the_warm_up_is_the_published_one_and_fits_short_runs() -> None:
    assert rates(4e-4, 3000, 20_000, last=1) == pytest.approx([4e-4 / 25])
    around_the_peak = rates(4e-4, 3000, 20_000, step=2990, last=3010)
    assert max(around_the_peak) == pytest.approx(4e-4, rel=1e-5)
    assert around_the_peak.index(max(around_the_peak)) == pytest.approx(10, abs=1)
    for total in (1, 2, 3, 10, 100):
        short = rates(4e-4, 3000, total)
        assert len(short) == total and all(rate > 0 for rate in short)
        assert short.index(max(short)) <= 0.3 * total + 1
    assert max(rates(4e-4, 3000, 100)) == pytest.approx(4e-4, rel=1e-2)


def test_the_schedule_is_a_function_of_the_step() -> None:
    whole = rates(1e-3, 5, 40)
    for step in (1, 4, 6, 39):
        assert rates(1e-3, 5, 40, step) == whole[step:]


@pytest.mark.parametrize(("processes", "share", "peak"), [(1, True, 3000), (8, True, 375), (8, False, 3000)])
def test_processes_share_the_warm_up(processes: int, share: bool, peak: int) -> None:
    found = rates(4e-4, 3000, 12_500, last=3100, processes=processes, share=share)
    assert found.index(max(found)) == pytest.approx(peak, abs=1)
    assert max(found) == pytest.approx(4e-4, rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_the_shared_warm_up_is_the_published_one(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published: OneCycle over all batches, which Accelerate's scheduler steps once per process."""
    batches, warmup = 4000, 300
    optimizer = one_weight(4e-4)
    accelerator = Accelerator(cpu=True)
    cycle = OneCycleLR(optimizer, max_lr=4e-4, total_steps=batches, pct_start=warmup / batches)
    published = AcceleratedScheduler(cycle, accelerator.prepare(optimizer))
    monkeypatch.setitem(AcceleratorState._shared_state, "num_processes", processes)
    monkeypatch.setitem(PartialState._shared_state, "num_processes", processes)
    expected = []
    for _ in range(batches // processes):
        expected.append(published.get_last_lr()[0])
        optimizer.step()
        published.step()
    found = rates(4e-4, warmup, batches // processes, processes=processes)
    assert found.index(max(found)) == pytest.approx(expected.index(max(expected)), abs=1)
    half_cycle = 4e-4 / (warmup / processes)  # the two schedules differ by one step of the cycle's end
    assert found == pytest.approx(expected, abs=2 * half_cycle)


def test_only_the_presets_of_this_project_do_not_share_the_warm_up() -> None:
    assert {name: options.train.share_warmup for name, options in PRESETS.items()} == {
        "lrm": True,
        "small": True,
        "big": True,
        "tiny": True,
        "nano": False,
    }
