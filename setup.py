"""Where things lie in the wheel: everything below the package ``l4gm``. The rest stands in pyproject.toml."""

from setuptools import find_packages, setup

CORE = [f"l4gm.{name}" for name in find_packages(include=["core", "core.*"])]
DATA = {"pretrained": "*.safetensors", "data_test/protocols": "*.toml", "data_train": "*.txt"}
SCRIPTS = "main infer_3d infer_4d refine_4d gen_vid infer_nvs train_nvs train_motion".split()
SCRIPTS += "matte convert app eval export view".split()
DATA_PACKAGES = {f"l4gm.{folder.replace('/', '.')}": folder for folder in DATA}

setup(
    packages=["l4gm", *CORE, *DATA_PACKAGES],
    py_modules=[f"l4gm.scripts.{script}" for script in SCRIPTS],
    package_dir={"l4gm.core": "core", "l4gm.scripts": ".", **DATA_PACKAGES},
    package_data={
        **{f"l4gm.{folder.replace('/', '.')}": [pattern] for folder, pattern in DATA.items()},
        "l4gm.core.export": ["player.*", "vendor/*/*"],
    },
)
