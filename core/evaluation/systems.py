"""Who is compared: checkpoints, each as a session of inference."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from core.checkpoint import look_into, stored_model_options
from core.errors import UserError
from core.inference.session import Session
from core.options import PRESETS, ModelOptions, Options

# Of the run, not of the weights: these stay those of the command line.
_OF_THE_RUN = {"input_size", "splat_size", "attention"}


@dataclass(frozen=True)
class Checkpoint:
    """A network that is compared.

    Attributes:
        name: what tables call it.
        options: preset and command line, with this checkpoint's files.
    """

    name: str
    options: Options

    @cached_property
    def session(self) -> Session:
        """Its networks and renderer, loaded when first used."""
        path = self.options.run.resume
        return Session(replace(self.options, model=trained_model(path, self.options.model) if path else None))


def checkpoints(options: Options) -> list[Checkpoint]:
    """``--resume`` and everything in ``--compare``."""
    own = [_parse(options.run.resume, options, options.infer.interpresume)] if options.run.resume else []
    return [*own, *(_parse(text, options, options.infer.interpresume) for text in options.eval.compare)]


def check_names(names: list[str]) -> None:
    """Raise `UserError` where two systems have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two systems are called {twice[0]!r}; name them: NAME=FILE with --compare or --predictions")


def split_name(text: str) -> tuple[str, str]:
    """``NAME=REST`` into its parts; without a name it is empty."""
    name, equals, rest = text.partition("=")
    return (name, rest) if equals else ("", text)


def _parse(text: str, options: Options, interpolation: str | None) -> Checkpoint:
    """One checkpoint from ``[NAME=][PRESET:]RECON[+INTERP]``."""
    name, rest = split_name(text)
    preset, colon, path = rest.partition(":")
    if colon and preset in PRESETS:
        given = PRESETS[preset]
        infer = replace(options.infer, interpresume=given.infer.interpresume)
        camera = replace(given.camera, renderer=options.camera.renderer)
        options = replace(given, run=options.run, infer=infer, camera=camera, eval=options.eval)
        rest, interpolation = path, infer.interpresume
    recon, _, interp = rest.partition("+")
    if not recon:
        raise UserError(f"--compare {text!r} names no checkpoint; give [NAME=][PRESET:]FILE[+FILE]")
    infer = replace(options.infer, interpresume=interp or interpolation)
    run = replace(options.run, resume=recon)
    return Checkpoint(name or Path(recon).stem, replace(options, run=run, infer=infer))


def trained_model(path: str, options: ModelOptions) -> ModelOptions:
    """The network that a file belongs to.

    Files that a training run wrote say it themselves. Of others the preset is believed, but for temporal attention,
    which the names of the tensors tell.

    Args:
        path: the checkpoint.
        options: of the command line; the image sizes are always these.

    Raises:
        UserError: the file cannot be read.
    """
    names, metadata = look_into(path)
    temporal = any("t_attns." in name for name in names)
    stored = stored_model_options(metadata)
    known = {field.name for field in fields(ModelOptions)} - _OF_THE_RUN
    values = {name: _tupled(value) for name, value in stored.items() if name in known}
    values = {**values, "use_temp_attn": temporal}
    levels = (
        len(values.get("down_channels", options.down_channels)),
        len(values.get("up_channels", options.up_channels)),
    )
    splat_size = options.input_size // 2 ** (levels[0] - levels[1])
    return replace(options, **values, splat_size=splat_size)


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
