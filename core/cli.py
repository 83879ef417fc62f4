"""What all scripts share: one flat command line, and errors that end in one line."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Sequence

import tyro

from core.cpu.memory import keep_freed_memory
from core.errors import UserError
from core.options import PRESET_HELP, PRESETS, Options

# What a full, read-only or foreign disk answers to whoever writes, compiled kernels included; and an impossible path.
_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
)


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
