"""Which machines Beam's arguments name, and what has to be shipped there."""

from __future__ import annotations

import pytest

from tfx_captioner.pipeline.beam_arguments import runs_elsewhere, without_package


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], False),
        (["--runner=FnApiRunner", "--direct_num_workers=1"], False),
        (["--runner=directrunner"], False),
        (["--runner=apache_beam.runners.direct.DirectRunner"], False),
        (["--runner=DirectRunner", "--runner=DataflowRunner"], True),
        (["--runner", "DataflowRunner"], True),
        (["--runner=PortableRunner", "--job_endpoint=localhost:8099"], True),
    ],
)
def test_the_last_runner_counts(arguments: list[str], expected: bool) -> None:
    assert runs_elsewhere(arguments) is expected


def test_tfx_packs_nothing_for_a_runner_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from tfx.utils import dependency_utils

    packed: list[bool] = []

    def pack() -> str:
        packed.append(True)
        return "tfx_ephemeral.tar.gz"

    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", pack)
    for runner in ("FnApiRunner", "DataflowRunner"):
        dependency_utils.make_beam_dependency_flags(without_package([f"--runner={runner}"]))
        assert bool(packed) == (runner == "DataflowRunner")
