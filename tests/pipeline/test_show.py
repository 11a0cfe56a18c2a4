"""What the end of a run says of captions."""

import pytest

from tfx_captioner.pipeline.show import names_main_object


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("a large red circle above a small blue star", True),
        ("there is a red circle on the left of the picture", True),
        ("A small Red Circle", True),
        ("a large blue star below a small red circle", False),
        ("a red star above a blue circle", False),
        ("a red picture of a circle", False),
        ("", False),
    ],
)
def test_the_main_object_is_the_first_that_is_named(caption: str, right: bool) -> None:
    assert names_main_object(caption, "red", "circle") is right
