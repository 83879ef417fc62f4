"""The installed name: ``import l4gm`` makes ``core`` importable, ``l4gm infer-4d nano ...`` runs a script.

Its modules import each other as ``core.*``, as a checkout does. An installed copy keeps ``core`` inside this package,
not as a top-level package: an import finder locates that one name.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# In a checkout the folders and scripts are beside this one, in an installed copy inside it.
HOME = _HERE if (_HERE / "core").is_dir() else _HERE.parent


class _CoreFinder:
    """Import finder for the package ``core``."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where ``core`` is; None for every other name. Its modules are found through its ``__path__`` as usual."""
        if name != "core":
            return None
        folder = HOME / "core"
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


def _claim_core() -> None:
    loaded = sys.modules.get("core")
    if loaded is not None and Path(str(loaded.__file__)).parent != HOME / "core":
        raise ImportError(f"another package called core is loaded already, from {loaded.__file__}: import l4gm first")
    sys.meta_path.insert(0, _CoreFinder)


_claim_core()
