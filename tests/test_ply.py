"""Saving and loading is the identity; foreign files load; the file's axes are what viewers expect."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.gaussians import Gaussians
from core.ply import PROPERTIES, load_ply, save_ply

SH_0 = 0.28209479177387814
FIELDS = [field.name for field in fields(Gaussians)]


def random_set(num: int = 50, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.rand(num, 3, generator=generator) * 2 - 1,
        opacities=torch.rand(num, generator=generator),
        scales=10 ** (torch.rand(num, 3, generator=generator) * 5 - 5),
        quats=torch.randn(num, 4, generator=generator),
        colors=torch.rand(num, 3, generator=generator),
    )


def assert_same(one: Gaussians, other: Gaussians) -> None:
    """Equal to float32 precision: a logarithm of size 11 is stored to 11 * 2^-24."""
    for name in FIELDS:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=2e-6, atol=1e-7, msg=name)


def rotations(quats: torch.Tensor) -> torch.Tensor:
    """Matrices [N, 3, 3] of quaternions (w, x, y, z), column by column: how each axis is turned."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    return torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1),
            torch.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], -1),
            torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        dim=-1,
    )


def covariances(gaussians: Gaussians) -> torch.Tensor:
    turned = rotations(gaussians.quats) * gaussians.scales[:, None, :]
    return turned @ turned.mT


def header_of(path: Path) -> list[str]:
    return path.read_bytes().split(b"end_header\n")[0].decode().splitlines()


def raw_table(path: Path) -> np.ndarray:
    """What a reader that knows only the published layout sees."""
    body = path.read_bytes().split(b"end_header\n", 1)[1]
    return np.frombuffer(body, "<f4").reshape(-1, 14)


@pytest.mark.parametrize("orientation", ["viewer", "world"])
def test_save_and_load_is_the_identity(tmp_path: Path, orientation: str) -> None:
    gaussians = random_set()
    save_ply(gaussians, tmp_path / "a.ply", orientation=orientation)
    loaded = load_ply(tmp_path / "a.ply")
    assert_same(loaded, gaussians)
    assert torch.equal(loaded.means, gaussians.means)
    assert torch.equal(loaded.quats, gaussians.quats)  # not even their sign or length changes


def test_the_ends_of_the_ranges_come_back_and_are_finite_in_the_file(tmp_path: Path) -> None:
    gaussians = random_set(6)
    gaussians.opacities[:] = torch.tensor([0.0, 1.0, 1e-30, 1 - 2**-24, 2**-24, 0.5])
    gaussians.scales[0] = 0
    gaussians.colors[0] = torch.tensor([0.0, 1.0, 1.5])
    save_ply(gaussians, tmp_path / "a.ply")
    loaded = load_ply(tmp_path / "a.ply")
    assert_same(loaded, gaussians)
    assert loaded.opacities[:2].tolist() == [0, 1]
    assert loaded.opacities[2] > 0
    assert loaded.scales[0].tolist() == [0, 0, 0]
    assert np.isfinite(raw_table(tmp_path / "a.ply")).all()


@pytest.mark.parametrize("num", [0, 1])
def test_few_gaussians(tmp_path: Path, num: int) -> None:
    save_ply(random_set(num), tmp_path / "a.ply")
    assert_same(load_ply(tmp_path / "a.ply"), random_set(num))


def test_other_number_types_and_gradients(tmp_path: Path) -> None:
    gaussians = random_set().to(torch.float64).map(torch.Tensor.requires_grad_)
    save_ply(gaussians, tmp_path / "a.ply")
    assert_same(load_ply(tmp_path / "a.ply"), gaussians.detach().to(torch.float32))


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    gaussians = random_set(3)
    save_ply(gaussians, tmp_path / "a.ply", orientation="world", metadata={"time": 0.5, "name": "a\nbär"})
    header = header_of(tmp_path / "a.ply")
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    assert [line for line in header if line.startswith("element")] == ["element vertex 3"]
    order = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert [line for line in header if line.startswith("property")] == [f"property float {p}" for p in order.split()]
    assert "comment time: 0.5" in header
    assert "comment name: a b\\xe4r" in header
    expected = torch.cat(
        [
            gaussians.means,
            (gaussians.colors - 0.5) / SH_0,
            torch.logit(gaussians.opacities)[:, None],
            gaussians.scales.log(),
            gaussians.quats,
        ],
        dim=-1,
    )
    np.testing.assert_allclose(raw_table(tmp_path / "a.ply"), expected, rtol=1e-5, atol=1e-6)


NAMES = {
    "full": "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 "
    + " ".join(f"f_rest_{i}" for i in range(45))
    + " opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3",
    "rgb": " ".join(PROPERTIES) + " red green blue",
}


@pytest.mark.parametrize("layout", NAMES)
def test_other_layouts_hold_the_same_gaussians(tmp_path: Path, layout: str) -> None:
    gaussians = random_set(7)
    gaussians.colors[0] = torch.tensor([-0.1, 0.5, 1.1])
    save_ply(gaussians, tmp_path / "a.ply", layout=layout)
    assert_same(load_ply(tmp_path / "a.ply"), gaussians)
    properties = [line.split()[1:] for line in header_of(tmp_path / "a.ply") if line.startswith("property")]
    assert [name for _, name in properties] == NAMES[layout].split()
    body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)[1]
    table = np.frombuffer(body, [(name, "u1" if kind == "uchar" else "<f4") for kind, name in properties])
    if layout == "full":
        assert not any(table[name].any() for name in table.dtype.names if name.startswith(("n", "f_rest")))
    else:
        assert table[["red", "green", "blue"]][0].item() == (0, 128, 255)


def test_viewers_that_turn_by_180_degrees_about_z_show_our_world(tmp_path: Path) -> None:
    # SuperSplat shows diag(-1, -1, 1) applied to what is in the file, covariances included.
    gaussians = random_set()
    save_ply(gaussians, tmp_path / "a.ply")
    assert any(re.fullmatch("comment orientation viewer: up -y, .*", line) for line in header_of(tmp_path / "a.ply"))
    table = torch.from_numpy(raw_table(tmp_path / "a.ply").copy())
    in_file = Gaussians(table[:, :3], gaussians.opacities, table[:, 7:10].exp(), table[:, 10:], gaussians.colors)
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    torch.testing.assert_close(in_file.means @ turn, gaussians.means)
    torch.testing.assert_close(turn @ covariances(in_file) @ turn, covariances(gaussians), rtol=1e-4, atol=1e-6)
    top = gaussians.means[:, 1].argmax()
    assert in_file.means[:, 1].argmin() == top  # up is -y in the file


def test_faint_gaussians_are_left_out_on_request(tmp_path: Path) -> None:
    gaussians = random_set()
    save_ply(gaussians, tmp_path / "a.ply", min_opacity=0.3)
    assert_same(load_ply(tmp_path / "a.ply"), gaussians.select(gaussians.opacities >= 0.3))


FOREIGN = ["nx", "ny", "nz", *(f"f_rest_{i}" for i in range(45))]


def write_foreign(path: Path, gaussians: Gaussians, storage: str, kind: str = "float", newline: str = "\n") -> None:
    """A file as other programs write it: shuffled, with normals and higher harmonics, elements before and after."""
    columns = {
        **dict(zip(("x", "y", "z"), gaussians.means.T, strict=True)),
        **{f"f_dc_{i}": (gaussians.colors[:, i] - 0.5) / SH_0 for i in range(3)},
        "opacity": torch.logit(gaussians.opacities),
        **{f"scale_{i}": gaussians.scales[:, i].log() for i in range(3)},
        **{f"rot_{i}": gaussians.quats[:, i] for i in range(4)},
        **{name: torch.full((gaussians.num,), 7.0) for name in FOREIGN},
    }
    names = list(np.random.default_rng(1).permutation(list(columns)))
    lines = ["ply", f"format {storage} 1.0", "comment made elsewhere", "element camera 2", "property uchar id"]
    lines += [f"element vertex {gaussians.num}", *(f"property {kind} {name}" for name in names)]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    if storage == "ascii":
        rows = [" ".join(repr(float(columns[name][i])) for name in names) for i in range(gaussians.num)]
        body = newline.join(["5", "6", *rows, "3 0 1 2", ""]).encode()
    else:
        order = "<" if storage == "binary_little_endian" else ">"
        table = np.stack([columns[name].numpy() for name in names], -1)
        width = 8 if kind == "double" else 4
        body = b"\5\6" + table.astype(f"{order}f{width}").tobytes() + b"\3" + np.arange(3, dtype=f"{order}i4").tobytes()
    path.write_bytes(newline.join(lines).encode() + body)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("storage", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_foreign_files_load_with_their_own_axes(tmp_path: Path, storage: str, kind: str, newline: str) -> None:
    gaussians = random_set()
    write_foreign(tmp_path / "a.ply", gaussians, storage, kind, newline)
    assert_same(load_ply(tmp_path / "a.ply"), gaussians)


def replace_once(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "not a .ply file"),
    "garbage": (lambda data: bytes(range(256)) * 20, "not a .ply file"),
    "cut header": (lambda data: data[:100], "header is cut off"),
    "cut body": (lambda data: data[:-1], "truncated: 50 vertices take 2800 bytes, 2799 follow"),
    "huge count": (lambda data: replace_once(data, b"vertex 50", b"vertex 99999999999999"), "truncated"),
    "negative count": (lambda data: replace_once(data, b"vertex 50", b"vertex -1"), "header is broken"),
    "no count": (lambda data: replace_once(data, b"vertex 50", b"vertex"), "header is broken"),
    "no vertices": (lambda data: replace_once(data, b"element vertex", b"element point"), "header is broken"),
    "unknown type": (lambda data: replace_once(data, b"float x", b"half x"), "header is broken"),
    "unknown format": (lambda data: replace_once(data, b"little", b"middle"), "header is broken"),
    "NaN": (lambda data: data[:-4] + np.float32("nan").tobytes(), "NaN or infinite"),
    **{
        f"no {name}": (
            lambda data, name=name: replace_once(data, b"float %b\n" % name.encode(), b"float other\n"),
            f"'{name}'",
        )
        for name in PROPERTIES
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    change, complaint = DAMAGES[damage]
    save_ply(random_set(), tmp_path / "a.ply")
    (tmp_path / "bad.ply").write_bytes(change((tmp_path / "a.ply").read_bytes()))
    with pytest.raises(UserError, match=re.escape(complaint)) as error:
        load_ply(tmp_path / "bad.ply")
    assert "bad.ply" in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text[: len(text) // 2], "truncated|numbers"),
        (lambda text: text.replace(b"0.", b"zero", 1), "not numbers"),
        (lambda text: text[: text.index(b"end_header")] + b"end_header\n5\n6\n" + b"1 2\n" * 50, "2 numbers for 62"),
    ],
)
def test_a_bad_ascii_file_is_one_clear_error(tmp_path: Path, change: Callable[[bytes], bytes], complaint: str) -> None:
    path = tmp_path / "bad.ply"
    write_foreign(path, random_set(), "ascii")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=rf"bad\.ply.*({complaint})"):
        load_ply(path)


def test_missing_files_and_values_that_no_file_should_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.ply"):
        load_ply(tmp_path / "nowhere.ply")
    for name, value in (("means", float("nan")), ("scales", float("inf")), ("scales", -0.1)):
        gaussians = random_set()
        getattr(gaussians, name)[3, 1] = value
        with pytest.raises(UserError, match=r"a\.ply.*NaN"):
            save_ply(gaussians, tmp_path / "a.ply")
    with pytest.raises(ValueError, match="leading axes"):
        save_ply(random_set().map(lambda field: field[None]), tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []
