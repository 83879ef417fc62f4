"""The first frame's four views: image files, whose they are, and the single-view model."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from core.errors import UserError
from core.images import load_image, save_image
from core.inference.first_frame import find_aligned_views, find_raw_views
from core.inference.inputs import Input, Source
from core.inference.network import Network
from core.inference.outputs import metadata_path, side_view_record, write_metadata
from core.media import read_video
from core.multiview.files import find_views, load_views, save_views, view_paths
from core.multiview.single_view import views_from_frame
from core.options import CameraOptions
from core.rendering.orbit import OrbitRenderer
from tests.tiny import SIZE, lopsided_gaussians, square_frame, square_video, tiny_network

VIEWS = torch.stack([square_frame(view) for view in range(4)])


@pytest.fixture
def source(tmp_path: Path) -> Source:
    video = read_video(square_video(tmp_path / "in" / "x.mp4"))
    return Source(Input(video.path, video.path.stem), video, range(video.num_frames), video.fps)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "out"


def write_record(source: Source, workspace: Path, program: str, files: list[Path], sha256: str = "") -> None:
    record = side_view_record(program, "test", sha256 or source.sha256, {path: path.read_bytes() for path in files})
    write_metadata(metadata_path(workspace, source.name), {"side_views": record})


def test_views_are_saved_under_the_published_names_and_load_again(tmp_path: Path) -> None:
    paths = save_views(VIEWS, tmp_path, "x", "_mv")
    assert [path.name for path in paths] == ["x_mv_000.png", "x_mv_001.png", "x_mv_002.png", "x_mv_003.png"]
    assert list(find_views(tmp_path, "x", "_mv").values()) == paths
    assert find_views(tmp_path, "x") == {}
    torch.testing.assert_close(load_views(paths), VIEWS, atol=1 / 255, rtol=0)


def test_aligned_views_are_four_or_none(source: Source, workspace: Path) -> None:
    for path in save_views(VIEWS, workspace, "x")[1:3]:
        path.unlink()
    with pytest.raises(UserError, match=r"x_001\.png, x_002\.png missing; complete the four, or call .* x_mv_00"):
        find_aligned_views(source, workspace, "auto")


def test_some_raw_views_are_enough_where_a_generator_may_make_the_others(source: Source, workspace: Path) -> None:
    paths = save_views(VIEWS, workspace, "x", "_mv")
    paths[0].unlink(), paths[2].unlink()
    for generator in ("auto", "single-view", "imagedream"):
        assert find_raw_views(source, workspace, generator) == {1: paths[1], 3: paths[3]}
    with pytest.raises(UserError, match=r"x_mv_000\.png, x_mv_002\.png missing"):
        find_raw_views(source, workspace, "files")


@pytest.mark.parametrize(("height", "width"), [(SIZE, SIZE + 2), (16, 16)])
def test_views_must_be_squares_of_one_size(tmp_path: Path, height: int, width: int) -> None:
    paths = save_views(VIEWS, tmp_path, "x")
    save_image(torch.ones(3, height, width), paths[2])
    with pytest.raises(UserError, match=rf"x_002\.png is {width}x{height} .* {SIZE}x{SIZE}"):
        load_views(paths)


@pytest.mark.parametrize("mode", ["auto", "files"])
def test_files_in_the_workspace_come_before_those_beside_the_video(source: Source, workspace: Path, mode: str) -> None:
    beside = save_views(VIEWS, source.path.parent, "x")
    assert find_aligned_views(source, workspace, mode) == beside
    ours = save_views(VIEWS, workspace, "x")
    assert find_aligned_views(source, workspace, mode) == ours
    assert find_aligned_views(source, workspace, "single-view") is None


def test_without_files_auto_makes_new_ones_and_files_is_an_error(source: Source, workspace: Path) -> None:
    assert find_aligned_views(source, workspace, "auto") is None
    assert find_raw_views(source, workspace, "auto") == {}
    assert find_aligned_views(source, workspace, "files") is None
    with pytest.raises(UserError, match=r"no side views of .*x_mv_000\.png .*x_000\.png"):
        find_raw_views(source, workspace, "files")


@pytest.mark.parametrize(("program", "taken"), [("infer_3d", True), ("infer_4d", False)])
def test_auto_takes_what_infer_3d_made_and_remakes_the_rest(
    source: Source, workspace: Path, program: str, taken: bool
) -> None:
    files = save_views(VIEWS, workspace, "x")
    write_record(source, workspace, program, files)
    assert find_aligned_views(source, workspace, "auto") == (files if taken else None)
    assert find_aligned_views(source, workspace, "files") == files


def test_views_made_from_another_video_of_that_name_are_passed_over(
    source: Source, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = save_views(VIEWS, workspace, "x")
    write_record(source, workspace, "infer_3d", files, sha256="of another video")
    assert find_aligned_views(source, workspace, "auto") is None
    assert "another video called x" in caplog.text
    assert find_aligned_views(source, workspace, "files") is None


def test_an_image_that_was_replaced_is_the_users_own(source: Source, workspace: Path) -> None:
    files = save_views(VIEWS, workspace, "x")
    write_record(source, workspace, "infer_4d", files, sha256="of another video")
    save_image(VIEWS[0].flip(-1), files[2])
    assert find_aligned_views(source, workspace, "auto") == files


def test_metadata_in_the_folder_of_an_earlier_version_is_read(source: Source, workspace: Path) -> None:
    files = save_views(VIEWS, workspace, "x")
    write_record(source, workspace, "infer_3d", files, sha256="of another video")
    (workspace / "x").mkdir()
    metadata_path(workspace, "x").rename(workspace / "x" / "metadata.json")
    assert find_aligned_views(source, workspace, "auto") is None
    write_record(source, workspace, "infer_3d", files)
    assert find_aligned_views(source, workspace, "auto") == files, "the newer record counts"


def test_a_metadata_file_of_another_program_is_ignored(source: Source, workspace: Path) -> None:
    files = save_views(VIEWS, workspace, "x")
    for text in ("", "[]", "{}", "[" * 9999, '{"side_views": {"files": []}}', '{"side_views": null}'):
        metadata_path(workspace, "x").parent.mkdir(parents=True, exist_ok=True)
        metadata_path(workspace, "x").write_text(text)
        assert find_aligned_views(source, workspace, "auto") == files


@pytest.mark.parametrize(("views", "like"), [(VIEWS, True), (1 - VIEWS, False), (torch.ones_like(VIEWS), False)])
def test_the_users_views_are_compared_with_the_first_frame(
    source: Source, workspace: Path, views: torch.Tensor, like: bool, caplog: pytest.LogCaptureFixture
) -> None:
    save_views(views, source.path.parent, "x")
    with caplog.at_level(logging.WARNING):
        assert find_aligned_views(source, workspace, "auto")
    assert ("does not look like the first frame" in caplog.text) is not like


def test_raw_views_are_taken_from_the_user_but_not_from_an_earlier_run(source: Source, workspace: Path) -> None:
    files = save_views(VIEWS, workspace, "x", "_mv")
    assert list(find_raw_views(source, workspace, "auto").values()) == files
    assert find_raw_views(source, workspace, "single-view") == {}, "asked to make them all"
    write_record(source, workspace, "infer_3d", files)
    assert find_raw_views(source, workspace, "auto") == {}
    assert list(find_raw_views(source, workspace, "files").values()) == files


def test_single_view_model_sees_the_frame_alone() -> None:
    """What comes back is the frame itself and three renders."""
    seen = []
    orbit = OrbitRenderer(CameraOptions(renderer="numba"), SIZE)

    def reconstruct(front: torch.Tensor) -> object:
        seen.append(front)
        return lopsided_gaussians()

    views = views_from_frame(VIEWS[0], reconstruct, orbit)
    assert torch.equal(seen[0], VIEWS[:1])
    assert torch.equal(views[0], VIEWS[0])
    torch.testing.assert_close(views[1:], orbit(lopsided_gaussians(), [90, 180, 270])[0])


def test_one_picture_at_inference_equals_view_dropout_of_training(tmp_path: Path) -> None:
    from core.data.side_views import front_alone
    from core.view_grid import ViewGrid

    network: Network = tiny_network(tmp_path)
    grids = []
    network.model.forward = lambda grid, *_: grids.append(grid) or lopsided_gaussians()[None]
    views_from_frame(VIEWS[0], network.reconstruct, lambda gaussians: VIEWS[None])
    images = VIEWS[None, None]
    expected = front_alone(ViewGrid.of(images, network.cameras.expand(1, 1, 4))).tensor()
    assert torch.equal(grids[0].tensor(), expected)


def test_saved_views_are_what_viewers_show(tmp_path: Path) -> None:
    path = view_paths(tmp_path, "x")[0]
    save_views(VIEWS, tmp_path, "x")
    assert torch.equal(load_image(path), VIEWS[0])
