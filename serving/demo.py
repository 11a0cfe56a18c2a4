"""A web page for people: drop a photograph, see what both models say and where they look.

It is a client like any other: the models are on a server, and when that is away the page says so.
Uploads are bounded, lie in a folder that nobody else reads, and are gone soon.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tfx_captioner.serving.attention_image import draw_panels
from tfx_captioner.serving.client import CallOptions, CaptionClient
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.photographs import prepare_photograph
from tfx_captioner.serving.request_size import RequestSizeMiddleware

TITLE = "tfx-captioner"
_REFRESH_SECONDS = 5
_MAX_UPLOAD_BYTES = 32 << 20
# An upload is read at once, and shown for as long as its page is open.
_SECONDS_BETWEEN_CLEANUPS, _SECONDS_KEPT = 60, 600
_OPTIONS = CallOptions(timeout=30, attempts=2)
_STATUS_OPTIONS = CallOptions(timeout=3, attempts=1)
# The themes' own fonts would be fetched from the Internet.
_THEME_FONT = ["system-ui", "sans-serif"]
_CSS = """
.caption {min-height: 5rem}
.caption p {font-size: 1.35rem}
.caption small {font-size: .9rem}
/* As many words in a row as a telephone or a desk has room for. */
.grid-container {grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)) !important}
footer {display: none !important}
"""

Panel = tuple[str, list[list[str]], list[tuple[Image.Image, str]]]


@dataclass(frozen=True)
class Page:
    """What the page asks.

    Attributes:
      url: Address of the server.
      models: Names of the models shown side by side.
    """

    url: str
    models: Sequence[str]

    def status(self) -> str:
        """The served versions, or that the server is away, as Markdown."""
        lines = []
        for model in self.models:
            try:
                with CaptionClient(self.url, model=model, options=_STATUS_OPTIONS) as client:
                    versions = client.status()
            except ServingError as error:
                if error.code == "NOT_FOUND":
                    lines.append(f"**{model}**: not served")
                    continue
                return (
                    f"### ⚠️ The server at {self.url} is away\n"
                    "Start it with `captioner serve`; this page comes back by itself."
                )
            served = [str(v.version) for v in versions if v.state == "AVAILABLE"]
            lines.append(f"**{model}**: version {', '.join(served) or '(none available)'}")
        return f"Served by {self.url}: " + " · ".join(lines)

    def explain(self, path: str | None, model: str) -> Panel:
        """Caption, alternatives and attention of one model."""
        if path is None:
            return "", [], []
        try:
            image = prepare_photograph(Path(path).read_bytes())
            with CaptionClient(self.url, model=model, options=_OPTIONS) as client:
                beams = client.beams(image)
                attention = client.attention(image)
        except ServingError as error:
            away = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
            return (f"⚠️ {'The server is away' if away else error.message}"), [], []
        except (OSError, ValueError) as error:
            return f"⚠️ This is no photograph that can be read: {error}", [], []
        best = beams[0]
        if not best.text:
            return "⚠️ No caption: this is no photograph that can be read.", [], []
        version = "" if best.version is None else f"version {best.version}"
        rows = [[beam.text, f"{beam.score:.3f}"] for beam in beams]
        return (
            f"{best.text}\n\n<small>{version}</small>",
            rows,
            draw_panels(image, attention),
        )


def build(page: Page) -> gr.Blocks:
    """The page, to be launched with `launch`."""
    cleanup = (_SECONDS_BETWEEN_CLEANUPS, _SECONDS_KEPT)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=cleanup) as app:
        gr.Markdown(f"# {TITLE}\nDrop a photograph: both models caption it.")
        status = gr.Markdown(elem_id="status")
        # The file goes to the server as it is; any image mode will do.
        photo = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            label="photograph",
            height=320,
            elem_id="photo",
        )
        with gr.Row():
            for model in page.models:
                _add_column(page, model, photo)
        gr.Timer(_REFRESH_SECONDS).tick(page.status, outputs=status, show_progress="hidden")
        app.load(page.status, outputs=status)
    return app


def launch(
    app: gr.Blocks,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    allowed_hosts: Iterable[str] = (),
    block: bool = True,
) -> None:
    """Serves the page.

    Args:
      app: What `build` gave.
      host: Address to listen on.
      port: Port.
      allowed_hosts: Names by which browsers may ask for the page, besides those of this machine;
        another name may be one that was pointed here to read what the page shows.
      block: Whether to return only when the page is ended.

    Raises:
      OSError: The port is taken.
    """
    names = {"127.0.0.1", "localhost", socket.gethostname(), *allowed_hosts}
    if host not in ("0.0.0.0", "::"):
        names.add(host)
    app.launch(
        server_name=host,
        server_port=port,
        theme=gr.themes.Default(font=_THEME_FONT, font_mono=["monospace"]),
        css=_CSS,
        quiet=True,
        share=False,
        ssr_mode=False,
        max_file_size=_MAX_UPLOAD_BYTES,
        app_kwargs={
            "middleware": [
                Middleware(TrustedHostMiddleware, allowed_hosts=sorted(names)),
                Middleware(RequestSizeMiddleware, max_bytes=_MAX_UPLOAD_BYTES + (1 << 20)),
            ]
        },
        prevent_thread_lock=not block,
    )


def _add_column(page: Page, model: str, photo: gr.Image) -> None:
    with gr.Column():
        gr.Markdown(f"### {model}")
        caption = gr.Markdown(elem_classes="caption", elem_id=f"caption-{model}")
        beams = gr.Dataframe(
            headers=["alternatives", "score"],
            datatype=["str", "str"],
            column_widths=["70%", "30%"],
            label="alternatives, by length-normalised log-probability",
            interactive=False,
            wrap=True,
            elem_id=f"beams-{model}",
        )
        gr.Markdown("where it looked, word by word")
        gallery = gr.Gallery(
            show_label=False,
            columns=4,
            object_fit="contain",
            height="auto",
            buttons=[],
            elem_id=f"attention-{model}",
        )
    photo.change(
        lambda path: page.explain(path, model),
        inputs=photo,
        outputs=[caption, beams, gallery],
        show_progress="minimal",
        concurrency_limit=4,
    )
