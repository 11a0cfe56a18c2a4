"""A data set as it lies there: which files it has, and which image means which of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.dataset import NamesMatched
from tfx_captioner.ingestion.names import is_url, match_files

# Not known before it is fetched; one for all, so that the same table gives the same shards.
_SIZE_BEHIND_URL = 200_000


@dataclass(frozen=True)
class Inventory:
    """A data set as it lies there, images unread.

    Attributes:
      source: Its folder.
      annotations: What its annotation files say.
      files: Files in its image folders and below, by path relative to its folder, and those at
        URLs, by URL.
      unusable: Why a file or folder in them cannot be read, likewise.
      names_matched: Images whose file has another name than the annotations say, by what the names
        differ in; `annotations.paths` has the name of the file.
      ambiguous: Why no file was taken for an image although some would match, by image id.
    """

    source: str
    annotations: Annotations
    files: Mapping[str, files.FileStamp]
    unusable: Mapping[str, str]
    names_matched: Mapping[str, NamesMatched]
    ambiguous: Mapping[str, str]

    @classmethod
    def take(cls, source: str, annotations: Annotations) -> Inventory:
        """Lists the image folders, and finds the files of images whose names differ in spelling."""
        found: dict[str, files.FileStamp] = {}
        unusable: dict[str, str] = {}
        for folder in _outermost(annotations.image_folders):
            listing = files.list_files(files.join(source, folder))
            found |= {files.join(folder, path): stamp for path, stamp in listing.files.items()}
            unusable |= {files.join(folder, path): why for path, why in listing.unusable.items()}
        archives = {path: files.stamp(files.join(source, path)) for path in annotations.archives}
        for path, member in annotations.members.items():
            archive = archives[member.archive]
            found[path] = files.FileStamp(member.size, archive.modified if archive else 0)
        wanted = {
            image: annotations.paths[image]
            for image in annotations.splits
            if image not in annotations.refused and not is_url(annotations.paths[image])
        }
        there = found.keys() - set(annotations.files)
        matches = match_files(wanted, there, annotations.image_folders, _name(source))
        matched: dict[str, NamesMatched] = {}
        for image, path in matches.paths.items():
            difference = matches.differences[image]
            known = matched.get(difference)
            example = known.example if known else f"{annotations.paths[image]} is {path}"
            matched[difference] = NamesMatched((known.images if known else 0) + 1, example)
            annotations.paths[image] = path
        for path in annotations.paths.values():
            if is_url(path):
                found[path] = files.FileStamp(_SIZE_BEHIND_URL, 0)
        return cls(source, annotations, found, unusable, matched, matches.problems)

    def size(self, image: str) -> int | None:
        """Bytes in the file of an image; None where there is no file."""
        stamp = self.files.get(self.annotations.paths[image])
        return None if stamp is None else stamp.size

    def why_missing(self, image: str) -> str:
        """What is known of an image whose file is not there."""
        unusable = self.unusable.get(self.annotations.paths[image])
        return unusable or self.ambiguous.get(image, "no file of this or a similar name")

    def name_in_folder(self, path: str) -> str:
        """A path as annotations would have it: relative to its folder of images."""
        for folder in sorted(self.annotations.image_folders, key=len, reverse=True):
            if folder and path.startswith(f"{folder}/"):
                return path[len(folder) + 1 :]
        return path


def _outermost(folders: list[str]) -> list[str]:
    """The folders that do not lie in another one of them, so that none is listed twice."""
    return [
        folder
        for folder in dict.fromkeys(folders)
        if not any(
            other != folder and (not other or folder.startswith(f"{other}/")) for other in folders
        )
    ]


def _name(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2]
