"""Shared by all scripts: one flat command line, and errors reported in one line."""

from __future__ import annotations

import ast
import errno
import inspect
import io
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import field, make_dataclass, replace
from functools import cache
from itertools import pairwise
from types import FrameType
from typing import Annotated, Any, get_type_hints

import tyro

from core.cpu.memory import keep_freed_memory
from core.errors import UserError
from core.options import PRESET_HELP, PRESETS, Options
from core.options.offers import RENAMED, SWITCHES, TRAIN, Offer, plain

Column = tuple[str, Any, Any]  # name, type with its help text, default

_log = logging.getLogger(__name__)
_REST = "not_shown"  # title of the group that the help omits
# Messages of torch's allocators; on a CPU a plain RuntimeError.
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
# Errors of writing to a full, read-only or foreign disk, compiled kernels included; and an impossible path.
_NO_ROOM = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
)


def parse_options(description: str, argv: Sequence[str] | None = None, offer: Offer = TRAIN) -> Options:
    """Parse ``PRESET --option value ...`` into `Options`; the preset gives the defaults.

    Args:
        description: one line for ``--help``.
        argv: arguments; None takes those of the process.
        offer: the script's options.

    Raises:
        UserError: an unknown option or preset, or an invalid value.
    """
    words = _renamed(sys.argv[1:] if argv is None else argv)
    for_help = not {"-h", "--help"}.isdisjoint(words)
    forms = {preset: (PRESET_HELP[preset], _form(preset, offer, for_help)) for preset in PRESETS}
    settings = {"use_underscores": True, "config": (tyro.conf.OmitArgPrefixes,)}
    with parser_errors_in_one_line():
        form = tyro.extras.overridable_config_cli(forms, description=description, args=words, **settings)
    _log_what_has_no_effect(words, offer)
    values = dict(vars(form))
    for title in (*offer.groups, _REST):
        values |= vars(values[title])
    options = PRESETS[form.preset]
    sections: dict[str, dict[str, object]] = {}
    for name in offer.taken:
        section, _, option = name.partition(".")
        sections.setdefault(section, {})[option] = values[option]
    return replace(options, **{name: replace(getattr(options, name), **given) for name, given in sections.items()})


def _form(preset: str, offer: Offer, for_help: bool) -> Any:
    """The command line as a dataclass for tyro: a field per option, an object per group, filled with the preset's
    values."""
    options = PRESETS[preset]
    groups = {title: _columns(names, options) for title, names in offer.shown.items()}
    if not for_help:
        switches = [(name, bool, value) for name, value in SWITCHES.items()]
        groups[_REST] = [*_columns(offer.not_shown, options), *switches]
    first = groups.pop("")
    nested = [(title, type(group), group) for title in groups for group in [_instance(title, groups[title])]]
    return _instance("first", [*first, *nested, ("preset", tyro.conf.Suppress[str], preset)])


def _columns(names: Iterable[str], options: Options) -> list[Column]:
    found = []
    for name in names:
        section, _, option = name.partition(".")
        kind = type(getattr(options, section))
        hint = get_type_hints(kind, include_extras=True)[option]
        described = Annotated[hint, tyro.conf.arg(help=help_texts(kind).get(option))]
        found.append((option, described, getattr(getattr(options, section), option)))
    return found


def _instance(name: str, columns: Iterable[Column]) -> Any:
    return make_dataclass(name, [(key, hint, field(default=value)) for key, hint, value in columns], frozen=True)()


@cache
def help_texts(section: type) -> dict[str, str]:
    """The docstrings below a section's fields."""
    (definition,) = ast.parse(inspect.getsource(section)).body
    return {
        entry.target.id: " ".join(text.value.value.split())
        for entry, text in pairwise(definition.body)
        if isinstance(entry, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _renamed(words: Iterable[str]) -> list[str]:
    """The command line with options and values of version 0.1 under their current names."""
    found: list[str] = []
    values: Mapping[str, str] = {}  # of the option before this word
    for word in words:
        flag, equals, value = word.partition("=")
        old = flag.removeprefix("--").replace("-", "_") if flag.startswith("--") else ""
        if old in RENAMED:
            new, values = RENAMED[old]
            found.append(f"--{new}{equals}{values.get(value, value)}")
            values = {} if equals else values
        else:
            found.append(values.get(word, word))
            values = {}
    return found


def _log_what_has_no_effect(words: Sequence[str], offer: Offer) -> None:
    given = {word.partition("=")[0].lstrip("-").replace("-", "_").removeprefix("no_") for word in words}
    useless = [f"--{name}" for name in (*map(plain, offer.ignored), *SWITCHES) if name in given]
    if useless:
        _log.info("%s: accepted as in the published programs, without effect here", " ".join(useless))


@contextmanager
def parser_errors_in_one_line() -> Iterator[None]:
    """Turn tyro's framed error messages of several lines into a `UserError` of one line."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_one_line(said.getvalue())) from None


def _one_line(framed: str) -> str:
    """The first part of tyro's message, the option or presets that it proposes, and where help is."""
    lines = [re.sub(r"^[│|]|[│|]$", "", line.strip()).strip() for line in framed.splitlines()[1:-1]]
    first, *others = " ".join(line if line.strip("─-") else "\0" for line in lines).split(" \0 ")
    parts = [first.removesuffix(".")]
    for part in others:
        proposed = re.match(r"Perhaps you meant: (?:.*?)(--\w+)", part)
        parts += [f"perhaps you meant {proposed[1]}"] if proposed else []
        parts += [part.replace("Available subcommands", "presets")] if part.startswith("Available") else []
    command = re.search(r"(?:run|see) (.*--help)", others[-1]) if others else None
    return "; ".join([*parts, *([f"see {command[1]}"] if command else [])])


def run(main: Callable[[], None]) -> None:
    """Run a script's ``main`` and exit: 0, 2 after an error that the user can fix (reported in one line), 130 after
    Ctrl-C.

    SIGTERM ends it as Ctrl-C does, so that no temporary file is left.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    keep_freed_memory()
    try:
        with _sigterm_interrupts():
            main()
    except UserError as error:
        sys.exit(_report(f"error: {error}", 2))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = error.filename or "a file"
        line = f"error: cannot write {where}: {error.strerror}; free some space or choose another folder"
        sys.exit(_report(line, 2))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        line = "error: there is not enough memory; smaller pictures, shorter chunks (--num_frames) or batches need less"
        sys.exit(_report(line, 2))
    except KeyboardInterrupt:
        sys.exit(_report("interrupted; finished files are valid", 130))


def _report(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """While it is open, the first SIGTERM raises KeyboardInterrupt and later ones do nothing."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
