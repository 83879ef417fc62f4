"""Laws of batches: samples repeat exactly, and broken clips are named, counted, replaced and bounded."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from core.data.batch import BrokenLedger, ClipBatch
from core.errors import UserError
from core.training.build import make_dataset as training_dataset
from core.training.build import make_loader, prepare_worker
from tests.dataset_factory import make_dataset, make_options, same
from tests.tiny_training import options_for


def _loader(dataset: Dataset, **options: object) -> DataLoader:
    return DataLoader(dataset, collate_fn=ClipBatch.collate, worker_init_fn=prepare_worker, **options)


class _Collected(Dataset):
    """Items that say whether collecting garbage in the worker destroyed what its main process left behind."""

    def __init__(self) -> None:
        self.destroyed = False

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> bool:
        gc.collect()
        return self.destroyed


class _Leftover:
    """Garbage that only a collection finds, as loaders in a cycle are."""

    def __init__(self, dataset: _Collected) -> None:
        self.dataset, self.itself = dataset, self

    def __del__(self) -> None:
        self.dataset.destroyed = True


# Determinism


def test_a_sample_depends_on_seed_epoch_and_index_alone(clips: tuple[Path, list[str]]):
    options = make_options(*clips, prob_grid_distortion=0.5, prob_cam_jitter=0.5, prob_view_dropout=0.5)
    one, two, other_seed = make_dataset(options), make_dataset(options), make_dataset(options, seed=1)
    for epoch in (0, 3):
        start = epoch * len(one)
        reverse = [two[start + i] for i in reversed(range(2))][::-1]
        torch.manual_seed(epoch)
        assert all(same(one[start + i], reverse[i]) for i in range(2))
    assert not all(same(one[i], other_seed[i]) for i in range(2))
    samples = [one[epoch * len(one)] for epoch in range(4)]
    assert not any(same(samples[0], sample) for sample in samples[1:])


def test_workers_make_the_same_samples(clips: tuple[Path, list[str]]):
    dataset = make_dataset(make_options(*clips, prob_grid_distortion=0.5))
    keys = [[0, 1], [3, 2]]  # of two epochs
    loader = _loader(dataset, batch_sampler=keys, num_workers=2)
    for batch, pair in zip(loader, keys, strict=True):
        assert same(batch, ClipBatch.collate([dataset[key] for key in pair]))


@pytest.mark.parametrize(("prepare", "destroyed"), [(prepare_worker, False), (None, True)])
def test_a_worker_leaves_the_garbage_that_it_inherits_alone(prepare: Callable[[int], None] | None, destroyed: bool):
    dataset = _Collected()
    gc.collect()  # of earlier tests, which a worker must not collect
    gc.disable()
    try:
        _Leftover(dataset)
        items = list(DataLoader(dataset, batch_size=None, num_workers=1, worker_init_fn=prepare))
    finally:
        gc.enable()
    assert items == [destroyed]


# Broken clips


def test_a_broken_clip_is_replaced_named_once_and_counted(
    clips: tuple[Path, list[str]], caplog: pytest.LogCaptureFixture
):
    home, names = clips
    (home / "random_clip-p-cow-0").write_bytes(b"")
    dataset = make_dataset(make_options(home, names, max_broken=0.5))
    ledger = BrokenLedger(dataset.num_clips, 0.5)
    for epoch in range(8):
        keys = [[epoch * len(dataset), epoch * len(dataset) + 1]]
        for batch in _loader(dataset, batch_sampler=keys, num_workers=1):
            ledger.add(batch)
            assert len(batch) == 2
            assert "p-cow-0" not in batch.names
            assert batch.names[1] == "p-cow-1"
    assert list(ledger.reasons) == ["p-cow-0"]
    assert [record.getMessage() for record in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "p-cow-0" in caplog.text


def test_a_broken_group_is_replaced_by_the_next(clips: tuple[Path, list[str]]):
    home, names = clips
    for name in ("p-fish-0", "p-fish-1"):
        (home / f"fixed_16_clip-{name}").unlink()
    sample = make_dataset(make_options(home, names))[0]
    assert sample.names[0] in ("p-cow-0", "p-cow-1")
    assert {name for name, _ in sample.broken} == {"p-fish-0", "p-fish-1"}


def test_too_many_broken_clips_stop_the_run_and_are_listed(clips: tuple[Path, list[str]]):
    home, names = clips
    for name in ("p-fish-0", "p-fish-1"):
        (home / f"fixed_16_clip-{name}").write_bytes(b"")
    sample = make_dataset(make_options(home, names))[0]
    BrokenLedger(4, max_broken=0.5).add(sample)
    with pytest.raises(UserError, match=r"2 of 4 clips .*p-fish-\d \(.*p-fish-\d \("):
        BrokenLedger(4, max_broken=0.4).add(sample)


def test_a_loader_without_any_readable_clip_stops_with_one_error(clips: tuple[Path, list[str]]):
    home, _ = clips
    dataset = make_dataset(make_options(home, [f"p-{i}-gone" for i in range(40)]))
    ledger = BrokenLedger(dataset.num_clips, max_broken=1.0)
    loader = _loader(dataset, batch_size=2, num_workers=1)
    with pytest.raises(UserError, match="10 of 39 clips"):
        ledger.add(next(iter(_loader(dataset, batch_size=1))))
    with pytest.raises(UserError, match="11 of 39 clips"):
        ledger.add(next(iter(loader)))


def test_one_unreadable_sample_leaves_the_rest_of_the_batch(clips: tuple[Path, list[str]]):
    dataset = make_dataset(make_options(*clips))
    batch = ClipBatch.collate([dataset._no_sample((("x", "gone"),)), dataset[0]])
    assert len(batch) == batch.grid.shape[0] == batch.cameras.shape[0] == 1
    assert batch.broken == (("x", "gone"),)
    assert same(batch, dataset[0])


def test_batch_moves_to_another_device(clips: tuple[Path, list[str]]):
    moved = make_dataset(make_options(*clips))[0].to("meta", non_blocking=True)
    tensors = (
        moved.grid.images,
        moved.grid.index,
        moved.images,
        moved.masks,
        moved.frames,
        moved.view_ids,
        moved.cameras.c2w,
    )
    assert all(tensor.device.type == "meta" for tensor in tensors)


# Page-locked memory


def tensors_of(part: object) -> Iterator[Tensor]:
    """Every tensor of a batch, in whatever part of it."""
    if isinstance(part, Tensor):
        yield part
    elif is_dataclass(part):
        for field in fields(part):
            yield from tensors_of(getattr(part, field.name))


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What torch was asked to pin; the pinned tensors are copies."""
    copies: list[Tensor] = []

    def pin(tensor: Tensor, *_: object) -> Tensor:
        copies.append(tensor.clone())
        return copies[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    return copies


def test_a_batch_pins_all_its_tensors(clips: tuple[Path, list[str]], pinned: list[Tensor]):
    batch = make_dataset(make_options(*clips))[0]
    found = list(tensors_of(batch.pin_memory()))
    assert len(found) == len(pinned) == 10
    assert {id(tensor) for tensor in found} == {id(tensor) for tensor in pinned}
    assert same(batch, batch.pin_memory())


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_training_loader_pins_where_there_is_a_gpu(
    training_clips: Path, tmp_path: Path, pinned: list[Tensor], monkeypatch: pytest.MonkeyPatch, has_gpu: bool
):
    """The loader as Accelerate prepares it, which is the one that a training draws from."""
    options = options_for(training_clips, tmp_path)
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: has_gpu)
    loader = make_loader(options, training_dataset(options, "train"), 0, 1)
    (batch,) = accelerator.prepare_data_loader(loader, device_placement=False)
    ids = {id(tensor) for tensor in pinned}
    assert [id(tensor) in ids for tensor in tensors_of(batch)] == [has_gpu] * 10
