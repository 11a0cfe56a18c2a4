"""Why something is set aside."""

from __future__ import annotations

import enum


class Reason(str, enum.Enum):
    """Why something was set aside."""

    CAPTION_UNPARSABLE = "caption_unparsable"
    CAPTION_EMPTY = "caption_empty"
    CAPTION_PLACEHOLDER = "caption_placeholder"
    CAPTION_MARKERS = "caption_markers"
    CAPTION_URL = "caption_url"
    CAPTION_TOO_LONG = "caption_too_long"
    CAPTION_REPEATED = "caption_repeated"
    IMAGE_MISSING = "image_missing"
    IMAGE_EMPTY = "image_empty"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_TOO_SMALL = "image_too_small"
    IMAGE_NOT_FETCHED = "image_not_fetched"  # a later try may
    IMAGE_URL_REFUSED = "image_url_refused"
    IMAGE_WITHOUT_CAPTIONS = "image_without_captions"
    IMAGE_WITHOUT_SPLIT = "image_without_split"
    IMAGE_ID_AMBIGUOUS = "image_id_ambiguous"
    NO_IMAGE_NAME = "no_image_name"
    NAME_REFUSED = "name_refused"
    FILE_UNUSABLE = "file_unusable"

    @property
    def is_bad_caption(self) -> bool:
        """Whether it is a sign of damage in the captions; a caption said twice is none."""
        return self.value.startswith("caption_") and self is not Reason.CAPTION_REPEATED

    @property
    def is_bad_image(self) -> bool:
        """Whether it speaks of an image rather than of a caption."""
        return not self.value.startswith("caption_")
