"""Predicted motion: what a motion is, the network that finds it, and sequences whose side views move."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.errors import UserError
from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.network import Network
from core.inference.refine import motions_of
from core.inference.sequence import GaussianFrame, insert, num_calls, reconstruct
from core.inference.session import Session
from core.multiview.files import load_views
from core.options import PRESETS, CameraOptions
from core.places import find
from core.rendering import make_renderer
from core.rendering.orbit import OrbitRenderer
from core.tracking import prediction
from core.tracking.motion_network import CHANNELS, IMAGE_SIZE, LATTICE, Motion, MotionNetwork
from core.tracking.pose import Pose, centre_of, posed
from core.tracking.prediction import (
    MotionPredictor,
    between,
    compared,
    cut,
    moved,
    no_motion,
    object_share,
    reach_of,
    windows,
)
from tests.tiny import SIZE, lopsided_gaussians, square_frame, tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")

CAMERA = CameraOptions(renderer="numba", rasterize_mode="antialiased")
RENDERER = make_renderer("numba", rasterize_mode="antialiased")
ROD = lopsided_gaussians()[0]
TURNED = Pose(torch.tensor([[0.1, 0.5, -0.1]]), torch.tensor([[0.05, 0.02, -0.1]]))
SIDES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def motion_of(pose: Pose, bend: Tensor | None = None, reach: float = 0.7) -> Motion:
    still = torch.zeros(1, 3, LATTICE, LATTICE, LATTICE)
    return Motion(pose, still if bend is None else bend, torch.tensor([reach]))


def front_of(gaussians: Gaussians, size: int = 128) -> Tensor:
    return OrbitRenderer(CAMERA, size)(gaussians[None], (0.0,))[0, 0].clone()


def follow(predictor: MotionPredictor, first: Gaussians, start: Tensor, frames: list[Tensor]) -> Iterator[Gaussians]:
    """The visible Gaussians at every frame."""
    first = first.visible()
    return (moved(first, motion, centre_of(first)) for motion in predictor.motions(first, start, frames))


def test_without_a_bend_points_and_gaussians_move_alike() -> None:
    centre = centre_of(ROD)
    places, bent = motion_of(TURNED).places(ROD.means[None], centre[None])
    assert torch.equal(places, bent)
    torch.testing.assert_close(moved(ROD, motion_of(TURNED), centre).means, places[0])
    torch.testing.assert_close(posed(ROD, Pose(TURNED.turn[0], TURNED.shift[0]), centre).means, places[0])


def test_a_linear_bend_moves_points_linearly_and_stops_at_its_cube() -> None:
    """Axes of the lattice are z, y, x; corners lie on the cube's."""
    line = torch.linspace(-1, 1, LATTICE)
    along_x = line.expand(LATTICE, LATTICE, LATTICE)
    bend = torch.stack([0 * along_x, 0.2 * along_x, 0.1 * line[:, None, None].expand_as(along_x)])[None]
    points = torch.tensor([[[0.35, 0.0, 0.0], [0.0, 0.5, -0.7], [1.4, 0.0, 0.0]]])
    expected = torch.tensor([[[0.0, 0.1, 0.0], [0.0, 0.0, -0.1], [0.0, 0.2, 0.0]]])
    torch.testing.assert_close(motion_of(TURNED, bend).displacement(points), expected, atol=1e-6, rtol=0)


def test_between_two_motions_the_object_turns_at_a_constant_rate() -> None:
    quarter = motion_of(Pose(torch.tensor([[0.0, math.pi / 2, 0.0]]), torch.tensor([[0.2, 0.0, 0.0]])))
    start = no_motion(torch.zeros(3))
    for share in (0.0, 0.25, 0.5, 1.0):
        pose = between(start, quarter, share).pose
        torch.testing.assert_close(pose.turn, share * quarter.pose.turn, atol=1e-5, rtol=0)
        torch.testing.assert_close(pose.shift, share * quarter.pose.shift)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_a_window_is_the_middle_of_the_image(share: float) -> None:
    """Drawing through the window's camera is cutting the middle out of the whole image."""
    whole = front_of(ROD, round(IMAGE_SIZE / share))
    drawn = RENDERER(ROD[None], windows(CAMERA, torch.tensor([share]))).image[:, 0]
    assert (cut(whole[None], share) - drawn).abs().mean() < 0.002
    shifted = cut(whole.roll(4, -1)[None], share)
    assert (shifted - drawn).abs().mean() > 0.01, "a shift by four pixels shows"


def test_the_window_shows_an_object_however_it_turns_about_the_origin() -> None:
    share = object_share(ROD, CAMERA)
    outer = float(ROD.means.norm(dim=-1).max())
    assert outer <= reach_of(CAMERA, share) < 1.5 * outer
    assert object_share(replace(ROD, means=10 * ROD.means), CAMERA) == 1.0
    assert object_share(replace(ROD, opacities=0 * ROD.opacities), CAMERA) == 1.0


def test_a_fresh_network_predicts_no_motion() -> None:
    generator = torch.Generator().manual_seed(0)
    turned = Pose(*torch.randn(2, 2, 3, generator=generator))
    pairs = torch.rand(2, CHANNELS, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    motion = MotionNetwork().eval()(pairs, turned, torch.ones(2))
    points, centre = ROD.means.expand(2, -1, -1), torch.zeros(2, 3)
    torch.testing.assert_close(motion.places(points, centre)[1], turned.applied_to(points, centre), atol=1e-4, rtol=0)


@pytest.mark.parametrize("inference", [False, True])
def test_a_still_video_has_no_motion(shipped: MotionPredictor, beast: Gaussians, inference: bool) -> None:
    """Though neither network nor fit finds the first frame exactly where it is; also in torch's inference mode."""
    with torch.inference_mode(inference):
        (found,) = follow(shipped, beast, front_of(beast), [front_of(beast)])
    torch.testing.assert_close(found.means, beast.means, atol=1e-5, rtol=0)


def test_the_pose_goes_to_where_the_frame_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that finds nothing; not where weights keep it."""
    predictor = MotionPredictor(MotionNetwork().eval(), RENDERER, CAMERA)
    shift = torch.tensor([0.04, 0.0, 0.0])
    after = posed(ROD, Pose(torch.zeros(3), shift), centre_of(ROD))

    def error() -> float:
        (found,) = follow(predictor, ROD, front_of(ROD), [front_of(after)])
        return float((found.means - after.means)[:, :2].norm(dim=-1).mean())

    assert error() < 0.5 * shift.norm()
    for name in ("NEAR_WEIGHT", "STILL_WEIGHT"):
        with monkeypatch.context() as patch:
            patch.setattr(prediction, name, 1e6)
            assert error() == pytest.approx(0.04, abs=1e-3), name


def test_an_empty_set_stays_empty() -> None:
    """As of a first frame that shows nothing."""
    predictor = MotionPredictor(MotionNetwork().eval(), RENDERER, CAMERA)
    nothing = replace(ROD, opacities=0 * ROD.opacities)
    white = torch.ones(3, 128, 128)
    assert [found.num for found in follow(predictor, nothing, white, [white, front_of(ROD)])] == [0, 0]


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(PRESETS["nano"])


@pytest.fixture(scope="module")
def shipped(session: Session) -> MotionPredictor:
    return session.predictor


@pytest.fixture(scope="module")
def beast(session: Session) -> Gaussians:
    """The first frame of a shipped sample, reconstructed from its four views."""
    views = load_views([find(f"data_test/beast_{view:03d}.png") for view in range(4)])
    views = resize_area(views, (session.network.size,) * 2)
    return session.network.reconstruct(views[:1], views[1:])[0].visible()


@pytest.mark.parametrize("turn", [(0.0, 0.4, 0.0), (0.0, -0.4, 0.0), (0.0, 0.0, 0.4), (0.0, 0.0, -0.4)])
def test_the_shipped_network_finds_a_turn(
    shipped: MotionPredictor, beast: Gaussians, turn: tuple[float, float, float]
) -> None:
    """At least half of the way, and back: the frame after is the first one again."""
    centre = centre_of(beast)
    after = posed(beast, Pose(torch.tensor(turn), torch.zeros(3)), centre)
    found, still = follow(shipped, beast, front_of(beast), [front_of(after), front_of(beast)])
    distance = (after.means - beast.means).norm(dim=-1).mean()
    assert (found.means - after.means).norm(dim=-1).mean() < 0.5 * distance
    assert (still.means - beast.means).norm(dim=-1).mean() < 0.2 * distance


def test_a_bend_of_the_network_does_not_depend_on_other_samples(shipped: MotionPredictor) -> None:
    sets = ROD.map(lambda field: field.expand(2, *field.shape))
    shares = torch.tensor([0.9, 0.6])
    frames = torch.cat([cut(front_of(ROD)[None], float(share)) for share in shares])
    pairs, reach = compared(RENDERER, CAMERA, sets, frames, shares), reach_of(CAMERA, shares)
    start = Pose(torch.zeros(2, 3), torch.zeros(2, 3))
    both = shipped.network(pairs, start, reach)
    alone = shipped.network(pairs[1:], Pose(*(part[1:] for part in start)), reach[1:])
    torch.testing.assert_close(both.bend[1:], alone.bend, atol=1e-5, rtol=1e-4)
    assert both.reach.tolist() == pytest.approx([reach_of(CAMERA, 0.9), reach_of(CAMERA, 0.6)])


class Sliding:
    """In place of the predictor: a known motion, a step to the right for every frame."""

    def motions(self, first: Gaussians, start: Tensor, frames: Iterator[Tensor]) -> Iterator[Motion]:
        for step, _ in enumerate(frames, 1):
            yield motion_of(Pose(torch.zeros(1, 3), torch.tensor([[0.1 * step, 0.0, 0.0]])))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return tiny_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def orbit() -> OrbitRenderer:
    return OrbitRenderer(CAMERA, SIZE)


def run(
    network: Network, orbit: OrbitRenderer, count: int, sides: Tensor | None = SIDES, grey: float | None = None
) -> list[GaussianFrame]:
    """Of a square that moves to the right, or of one grey that fills every frame."""
    video = (square_frame(index) if grey is None else torch.full((3, SIZE, SIZE), grey) for index in range(count))
    return list(reconstruct(video, sides, 3, network, orbit, "moved", 2, Sliding()))


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8])
def test_moved_side_views_give_every_frame_once(network: Network, orbit: OrbitRenderer, count: int) -> None:
    frames = run(network, orbit, count)
    assert [frame.time for frame in frames] == list(range(count))
    assert all(torch.equal(frame.image, square_frame(index)) for index, frame in enumerate(frames))
    assert num_calls(count, 3, 0, "moved", 2) == 1 + -(-(count - 1) // 3)


@pytest.mark.parametrize("sides", [SIDES, None])
def test_side_gaussians_are_the_first_frames_moved(
    network: Network, orbit: OrbitRenderer, sides: Tensor | None
) -> None:
    """The first frame is the network's own; of the others three quarters move and the front's are new."""
    frames = run(network, orbit, 4, sides, 0.3)
    first = network.reconstruct(torch.full((1, 3, SIZE, SIZE), 0.3), sides)[0]
    assert torch.equal(frames[0].gaussians.means, first.visible().means)
    quarter = first.num // 4
    side = first.map(lambda field: field[quarter:]).visible()
    for step, frame in enumerate(frames[1:], 1):
        expected = side.means + torch.tensor([0.1 * step, 0.0, 0.0])
        torch.testing.assert_close(frame.gaussians.means[-side.num :], expected)
        assert frame.gaussians.num > side.num


def test_what_lies_beside_the_front_is_not_kept(network: Network, orbit: OrbitRenderer) -> None:
    """On a white frame nothing of the side views is left."""
    frames = list(
        reconstruct([square_frame(0), torch.ones(3, SIZE, SIZE)], SIDES, 3, network, orbit, "moved", 1, Sliding())
    )
    assert frames[1].gaussians.num <= network.reconstruct(torch.ones(1, 3, SIZE, SIZE), SIDES)[0].num // 4


def test_inserted_side_views_move_on(network: Network, orbit: OrbitRenderer) -> None:
    frames = run(network, orbit, 3, grey=0.3)
    blends = [torch.full((2, 3, SIZE, SIZE), 0.3)] * 2
    finer = list(insert(frames, blends, SIDES, 2, network, orbit))
    assert [float(frame.time) for frame in finer] == pytest.approx([k / 3 for k in range(7)])
    first = network.reconstruct(torch.full((1, 3, SIZE, SIZE), 0.3), SIDES)[0]
    side = first.map(lambda field: field[first.num // 4 :]).visible()
    for frame in finer[1:]:
        shift = (frame.gaussians.means[-side.num :] - side.means)[:, 0]
        torch.testing.assert_close(shift, torch.full_like(shift, 0.1 * float(frame.time)), atol=1e-5, rtol=0)


def test_a_tracked_fit_is_given_the_motions(network: Network, orbit: OrbitRenderer) -> None:
    frames = run(network, orbit, 4)
    known = motions_of(frames, torch.device("cpu"))
    assert [float(motion.pose.shift[0, 0]) for motion in known.later] == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(known.centre, frames[0].moved.body.centre)
    kept = reconstruct([square_frame(0), square_frame(1)], SIDES, 2, network, orbit, "first")
    assert motions_of(list(kept), torch.device("cpu")) is None


def test_a_missing_motion_network_is_named(tmp_path: Path) -> None:
    options = PRESETS["nano"]
    sides = replace(options.side_views, motion_resume=str(tmp_path / "none.safetensors"))
    session = Session(replace(options, side_views=sides))
    assert session.predictor_for("first") is None
    with pytest.raises(UserError, match=r"none\.safetensors"):
        _ = session.predictor
