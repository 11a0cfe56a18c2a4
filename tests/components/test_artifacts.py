"""Artifact types by the path that Kubeflow imports them by."""

from __future__ import annotations

import importlib

import pytest

import tfx_captioner
from tfx_captioner.components import artifacts


@pytest.mark.parametrize("name", tfx_captioner.__all__)
def test_every_type_is_reached_by_its_type_name(name: str) -> None:
    kind = getattr(artifacts, name)
    package, attribute = kind.TYPE_NAME.split(".")
    assert getattr(importlib.import_module(package), attribute) is kind


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tfx_captioner' has no attribute 'Blessing'"):
        _ = tfx_captioner.Blessing
