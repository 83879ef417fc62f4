"""Options: flat and unique names, published defaults."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from core.options import PRESET_HELP, PRESETS, Options


def test_names_are_unique_over_all_sections() -> None:
    """Command lines are flat, so two sections must not share a name."""
    counts = Counter(field.name for section in fields(Options) for field in fields(getattr(Options(), section.name)))
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_preset_is_described() -> None:
    assert PRESETS.keys() == PRESET_HELP.keys()


def test_published_presets_keep_the_published_numbers() -> None:
    lrm, big, tiny = PRESETS["lrm"], PRESETS["big"], PRESETS["tiny"]
    assert (lrm.data.num_views, lrm.train.batch_size, lrm.data.output_size) == (12, 8, 256)
    assert (big.data.num_views, big.train.batch_size, big.data.output_size, big.model.splat_size) == (8, 1, 512, 128)
    assert (tiny.data.num_views, tiny.train.batch_size) == (8, 16)
    assert big.model.architecture == "l4gm" and PRESETS["nano"].model.architecture == "nano"
    assert big.data.num_frames == 8 and big.infer.interpolate_rate == 3
