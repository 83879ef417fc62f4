"""What all scripts share: one flat command line, and errors that end in one line."""

from __future__ import annotations

import ctypes
import errno
import logging
import sys
from collections.abc import Callable, Sequence

import tyro

from core.errors import UserError
from core.options import PRESET_HELP, PRESETS, Options

# What a full, read-only or foreign disk answers to whoever writes, compiled kernels included; and an impossible path.
_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
)
# mallopt's names for three of glibc's parameters, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 1 << 30  # bytes


def parse_options(description: str, argv: Sequence[str] | None = None) -> Options:
    """Parse ``PRESET --option value ...`` into `Options`; the preset gives the defaults.

    Args:
        description: one line for ``--help``.
        argv: arguments; None takes those of the process.
    """
    return tyro.extras.overridable_config_cli(
        {name: (PRESET_HELP[name], options) for name, options in PRESETS.items()},
        description=description,
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to a gigabyte for the next tensor instead of handing them back.

    Above 32 MB it would fetch every tensor from the kernel anew, page by zeroed page: that takes four times as long as
    filling it. All threads share one arena, for those of threads hold no large block. Other C libraries have no
    ``mallopt`` and stay as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_ARENA_MAX, 1)


def run(main: Callable[[], None]) -> None:
    """Run a script's ``main`` and exit: 0, 2 for what the user can mend (one line says how), 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    keep_freed_memory()
    try:
        main()
    except UserError as error:
        sys.exit(_report(f"error: {error}", 2))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = error.filename or "a file"
        line = f"error: cannot write {where}: {error.strerror}; free some space or choose another folder"
        sys.exit(_report(line, 2))
    except KeyboardInterrupt:
        sys.exit(_report("interrupted; what was finished is valid", 130))


def _report(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status
