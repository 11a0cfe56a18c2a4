"""`captioner caption`: ask a served or a pushed model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfx_captioner.pipeline.arguments import add_serving_dir
from tfx_captioner.pipeline.errors import UserError
from tfx_captioner.pipeline.noise import silence_libraries

HELP = "Caption photographs, by a server or by the model that was pushed last."
EXAMPLES = """\
examples:
  captioner caption photo.jpg
  captioner caption photo.jpg --server http://127.0.0.1:8501
  captioner caption photo.jpg --beams --attention looks.png
  captioner caption album/ > captions.jsonl
  find . -name '*.jpg' | captioner caption - > captions.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds photographs, whom to ask, and what for."""
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image files, folders of them, or - for a list of paths on standard input; "
        "more than one photograph gives JSON lines",
    )
    parser.add_argument(
        "--server", metavar="URL", help="grpc://HOST:PORT or http://HOST:PORT of a running server"
    )
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="SavedModel to load, where no server is asked"
    )
    add_serving_dir(parser)
    parser.add_argument(
        "--name", default="captioner", help="name of the model (default: captioner)"
    )
    parser.add_argument("--label", help="version label to ask, such as stable; with --server")
    parser.add_argument("--beams", action="store_true", help="alternatives with their scores")
    parser.add_argument(
        "--attention", type=Path, metavar="PNG", help="draw where the model looked, word by word"
    )
    parser.add_argument("--in-flight", type=int, default=8, help="calls at the same time")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a call")


def run(arguments: argparse.Namespace) -> int:
    """Prints a caption, or JSON lines; returns 1 when a photograph got none."""
    photos = list(_photos(arguments.photos))
    _check(arguments, photos)
    from tfx_captioner.serving.errors import ServingError

    try:
        with _client(arguments) as client:
            if [*map(str, photos)] == arguments.photos and len(photos) == 1:
                return _caption_one(client, photos[0], arguments)
            return _caption_many(client, photos, arguments)
    except ServingError as error:
        if error.code == "INVALID_ARGUMENT":
            raise UserError(f"{photos[0]} was refused: {error.message}") from error
        raise UserError(f"{arguments.server or 'The model'} did not answer: {error}") from error


def _check(arguments: argparse.Namespace, photos: Sequence[Path]) -> None:
    if not photos:
        raise UserError(f"No photograph in {', '.join(arguments.photos)}.")
    if arguments.server and arguments.model:
        raise UserError("Give --server or --model, not both.")
    if arguments.label and not arguments.server:
        raise UserError("--label names a version of a server; give --server too.")
    if arguments.attention and len(photos) > 1:
        raise UserError(f"--attention draws one photograph. Received: {len(photos)}.")
    if arguments.in_flight < 1:
        raise UserError(f"--in-flight must be at least 1. Received: {arguments.in_flight}.")


def _photos(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if name == "-":
            yield from (Path(line.strip()) for line in sys.stdin if line.strip())
            continue
        path = Path(name)
        if path.is_dir():
            album = _photographs().find_photographs(path)
            if album.left_out:
                print(f"captioner: {name}: {album.say_left_out()}", file=sys.stderr)
            yield from album.photographs
        elif path.is_file():
            yield path
        else:
            raise UserError(f"{path} does not exist.")


def _photographs() -> Any:
    try:
        from tfx_captioner.serving import photographs
    except ImportError as error:
        raise UserError(f"Reading photographs needs the extra `client` ({error}).") from error
    return photographs


def _client(arguments: argparse.Namespace) -> Any:
    from tfx_captioner.serving.client import CallOptions, CaptionClient
    from tfx_captioner.serving.pushed import find_saved_model, newest_serving_dir

    try:
        if arguments.server:
            return CaptionClient(
                arguments.server,
                model=arguments.name,
                label=arguments.label,
                options=CallOptions(timeout=arguments.timeout),
            )
        base = arguments.model or ((arguments.serving_dir or newest_serving_dir()) / arguments.name)
        path = find_saved_model(base)
    except ValueError as error:
        raise UserError(str(error)) from error
    silence_libraries()
    try:
        from tfx_captioner.serving.in_process import open_saved_model
    except ImportError as error:
        raise UserError(
            f"Loading a model needs the extras `pipeline` and `server` ({error}); "
            "a server is asked with --server."
        ) from error
    return open_saved_model(path)


def _caption_one(client: Any, photo: Path, arguments: argparse.Namespace) -> int:
    try:
        image = _photographs().prepare_photograph(photo.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{photo}: {error}") from error
    captions = client.beams(image) if arguments.beams else (client.caption(image),)
    if not captions[0].text:
        raise UserError(f"{photo} got no caption: it is no JPEG or PNG.")
    for caption in captions:
        print(f"{caption.score:8.3f}  {caption.text}" if arguments.beams else caption.text)
    if arguments.attention:
        _draw_attention(client, image, photo, arguments.attention)
    return 0


def _draw_attention(client: Any, image: bytes, photo: Path, sheet: Path) -> None:
    try:
        from tfx_captioner.serving.attention_image import draw_attention
    except ImportError as error:
        raise UserError(f"Drawing needs the extra `demo` ({error}).") from error
    try:
        draw_attention(image, client.attention(image)).save(sheet, "PNG")
    except (OSError, ValueError) as error:
        raise UserError(f"{photo}: {error}") from error


def _caption_many(client: Any, photos: Sequence[Path], arguments: argparse.Namespace) -> int:
    """Writes JSON lines; returns 1 when a photograph got no caption."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    failed = 0
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("captions", total=len(photos))
        for record in _records(client, photos, arguments):
            print(json.dumps(record, ensure_ascii=False), flush=True)
            failed += "error" in record
            progress.advance(task)
    if failed:
        print(f"captioner: {failed} of {len(photos)} got no caption", file=sys.stderr)
    return 1 if failed else 0


def _records(
    client: Any, photos: Sequence[Path], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    from tfx_captioner.serving.errors import ServingError
    from tfx_captioner.serving.photographs import show

    unreadable: dict[Path, Exception] = {}
    contents = _contents(photos, unreadable)
    results: Iterator[Any] = (
        (_beams(client, content) for content in contents)
        if arguments.beams
        else ([result] for result in client.stream(contents, in_flight=arguments.in_flight))
    )
    for photo, captions in zip(photos, results, strict=True):
        record: dict[str, Any] = {"photo": show(photo)}
        best = captions[0]
        if photo in unreadable:
            record["error"] = str(unreadable[photo])
        elif isinstance(best, ServingError):
            record["error"] = str(best)
        elif not best.text:
            record["error"] = "no JPEG or PNG"
        else:
            if arguments.beams:
                record["captions"] = [{"caption": c.text, "score": c.score} for c in captions]
            else:
                record |= {"caption": best.text, "score": best.score}
            if best.version is not None:
                record["version"] = best.version
        yield record


def _beams(client: Any, image: bytes) -> Sequence[Any]:
    from tfx_captioner.serving.errors import ServingError

    try:
        return tuple(client.beams(image))
    except ServingError as error:
        if error.code != "INVALID_ARGUMENT":
            raise
        return (error,)


def _contents(photos: Sequence[Path], unreadable: dict[Path, Exception]) -> Iterator[bytes]:
    """Files that cannot be read are empty, which no model takes for a photograph."""
    prepare = _photographs().prepare_photograph
    for photo in photos:
        try:
            yield prepare(photo.read_bytes())
        except (OSError, ValueError) as error:
            unreadable[photo] = error
            yield b""
