"""Flickr8k as published: `Flickr8k.token.txt` and three split files (Hodosh et al. 2013)."""

from __future__ import annotations

from collections.abc import Mapping

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers.base import Reader, find, find_image_folder
from tfx_captioner.ingestion.readers.text import add_captions, lines_of
from tfx_captioner.ingestion.reasons import Reason

SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
IMAGE_FOLDERS = (
    "Images",
    "images",
    "Flicker8k_Dataset",  # as the authors spelt it
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "Flickr8k_Dataset",
)

# The two published archives, of texts and of images, are unpacked into one folder or into two.
_TEXT_FOLDERS = ("", "Flickr8k_text")
_TOKENS = "Flickr8k.token.txt"


class Flickr8kReader(Reader):
    """Flickr8k as published; also the form of the generated sample."""

    name = "flickr8k"
    has_splits = True
    looked_for = f"{_TOKENS} with {', '.join(SPLIT_FILES.values())}"

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether the captions and all split files are there."""
        tokens = _find_tokens(source)
        return tokens is not None and find_split_files(source) is not None

    def near_miss(self, source: str) -> str:
        """What is there without the rest."""
        tokens = _find_tokens(source)
        return f"{tokens} is there, the split files are not" if tokens else ""

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the captions and the three split files."""
        tokens = _find_tokens(source)
        splits = find_split_files(source)
        if tokens is None or splits is None:
            raise IngestError(self.refusal(source))
        found = Annotations(config.max_caption_words, files=[tokens, *splits.values()])
        found.image_folders = [find_image_folder(source, IMAGE_FOLDERS)]
        add_captions(found, lines_of(source, tokens), parse_token_line)
        read_splits(source, splits, found)
        return found


def parse_token_line(line: str) -> tuple[str, int, str]:
    """Takes `1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress .` apart.

    Returns:
      Image file, number of the caption, caption.

    Raises:
      ValueError: The line is of another form; says what is missing.
    """
    key, tab, text = line.partition("\t")
    if not tab:
        raise ValueError("no tab between image and caption")
    image, hash_sign, number = key.strip().rpartition("#")
    if not (image and hash_sign and number.isdecimal()):
        raise ValueError("no `image#number` before the tab")
    return image, int(number), text


def find_split_files(source: str) -> dict[str, str] | None:
    """The three split files, by split; None where there is none of them.

    Raises:
      IngestError: Only some are there.
    """
    found = {
        split: find(source, [files.join(folder, name) for folder in _TEXT_FOLDERS])
        for split, name in SPLIT_FILES.items()
    }
    present = {split: path for split, path in found.items() if path}
    if present and len(present) < len(SPLIT_FILES):
        missing = ", ".join(name for split, name in SPLIT_FILES.items() if split not in present)
        raise IngestError(f"{source} has some split files, but not {missing}.")
    return present or None


def read_splits(source: str, splits: dict[str, str], found: Annotations) -> None:
    """Assigns the images that the split files list."""
    folder = found.image_folders[0]
    for split, path in splits.items():
        for line in lines_of(source, path):
            image = line.text.strip()
            if line.problem:
                found.reject(Reason.NAME_REFUSED, image, line.where, line.problem)
            else:
                found.add_image(image, split, folder, image, line.where)
    found.split_rule = f"as listed in {', '.join(splits.values())}"


def _find_tokens(source: str) -> str | None:
    return find(source, [files.join(folder, _TOKENS) for folder in _TEXT_FOLDERS])
