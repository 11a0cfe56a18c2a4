"""Scores in memory, their bootstrap, caption files and `captioner score`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfx_captioner.metrics import caption_files, meteor, ptb, scoring
from tfx_captioner.metrics.cider import DocumentFrequencies
from tfx_captioner.metrics.descriptions import jackknife_error
from tfx_captioner.metrics.diversity import MEASURES, DiversityStatistics
from tfx_captioner.pipeline.commands import score as command
from tfx_captioner.pipeline.errors import UserError

needs_meteor = pytest.mark.skipif(
    meteor.unavailable_reason() is not None,
    reason=f"METEOR is not available: {meteor.unavailable_reason()}",
)

REFERENCES = {
    "0": ["A dog runs in the grass .", "The dog is running ."],
    "1": ["A man sits on a bench .", "A man .", "Some man ."],
    "2": ["Two girls eat ice-cream ."],
    "3": ["A boy's red ball (new) .", "A ball ."],
}
HYPOTHESES = {
    "3": "a boy <unk> a red ball",
    "0": "a dog runs in grass",
    "1": "a man sits on the bench",
    "2": "two girls eat ice-cream",
}
# pycocoevalcap 1.2 with its own tokenizer.
SCORES = {
    "bleu_1": 0.8172831040651436,
    "bleu_2": 0.7100971954880624,
    "bleu_3": 0.6054165205181548,
    "bleu_4": 0.5153356826227257,
    "rouge_l": 0.9121506373810521,
    "cider_d": 4.441264852298199,
}
METEOR = 0.4478913695853011
METEOR_IMAGES = [0.4645695216158345, 0.45876240259563655, 1.0, 0.30328232509354]


def system(seed: int, images: int = 60, good: float = 0.5) -> scoring.ImageStatistics:
    generator = np.random.default_rng(seed)
    words = np.array(["a", "dog", "man", "runs", "on", "the", "grass", "red"])
    references, hypotheses = {}, {}
    captions = np.random.default_rng(1)
    for image in range(images):
        texts = [" ".join(captions.choice(words, captions.integers(4, 9))) for _ in range(3)]
        references[str(image)] = texts
        luck, wrong = generator.random(), " ".join(generator.choice(words, 6))
        hypotheses[str(image)] = texts[0] if luck < good else wrong
    return scoring.image_statistics(references, hypotheses, with_meteor=False)


def test_scores_of_pycocoevalcap() -> None:
    scores = scoring.score(REFERENCES, HYPOTHESES, with_meteor=False)
    assert {name: scores[name] for name in SCORES} == pytest.approx(SCORES, rel=1e-12)


def test_what_captions_are_like_equals_the_metrics_of_beam() -> None:
    scores = scoring.image_statistics(
        REFERENCES, HYPOTHESES, with_meteor=False, training_captions={"two girls eat ice-cream"}
    ).corpus()
    expected = DiversityStatistics()
    for image, references in REFERENCES.items():
        expected.add(ptb.tokenize(HYPOTHESES[image]), [ptb.tokenize(text) for text in references])
    assert {name: scores[name] for name in MEASURES} == {
        name: getattr(expected, name)() for name in MEASURES
    }
    assert scores["novel_captions"] == 0.75


def test_jackknife_leaves_each_image_out() -> None:
    statistics = scoring.image_statistics(REFERENCES, HYPOTHESES, with_meteor=False)
    without = statistics.descriptions.leave_one_out()
    for row, image in enumerate(statistics.ids):
        rest = statistics.select([other for other in statistics.ids if other != image]).corpus()
        for name, values in without.items():
            assert values[row] == pytest.approx(rest[name], rel=1e-12)
    # Of a mean it is the usual standard error.
    values = np.array([1.0, 2.0, 5.0, 0.0])
    leave_one_out = (values.sum() - values) / 3
    assert jackknife_error(leave_one_out) == pytest.approx(values.std(ddof=1) / 2)


@needs_meteor
def test_meteor_of_pycocoevalcap() -> None:
    statistics = scoring.image_statistics(REFERENCES, HYPOTHESES)
    assert statistics.corpus()["meteor"] == METEOR
    np.testing.assert_allclose(statistics.images()["meteor"], METEOR_IMAGES, rtol=1e-14)
    intervals = scoring.bootstrap_intervals(statistics, resamples=50)
    assert intervals["meteor"].lower <= METEOR <= intervals["meteor"].upper


def test_scores_of_single_images() -> None:
    statistics = scoring.image_statistics(REFERENCES, HYPOTHESES, with_meteor=False)
    images = statistics.images()
    assert statistics.ids == ("0", "1", "2", "3")
    assert images["bleu_1"][2] == pytest.approx(1.0)
    assert images["rouge_l"][2] == 1.0
    assert images["cider_d"].mean() == pytest.approx(SCORES["cider_d"], rel=1e-12)


def test_train_idf_is_another_score_beside_the_published_one() -> None:
    frequencies = DocumentFrequencies.of([["a dog"], ["a man"], ["a girl"]])
    scores = scoring.score(
        REFERENCES, HYPOTHESES, with_meteor=False, document_frequencies=frequencies
    )
    assert scores["cider_d"] == pytest.approx(SCORES["cider_d"], rel=1e-12)
    assert 0 < scores["cider_d_train_idf"] < 10
    assert scores["cider_d_train_idf"] != scores["cider_d"]


def test_a_slice_scores_as_a_corpus_of_its_own() -> None:
    statistics = scoring.image_statistics(REFERENCES, HYPOTHESES, with_meteor=False)
    ids = ["2", "0"]
    alone = scoring.score(
        {image: REFERENCES[image] for image in ids},
        {image: HYPOTHESES[image] for image in ids},
        with_meteor=False,
    )
    part = statistics.select(ids)
    assert part.ids == ("2", "0")
    assert part.corpus() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ({"a": ["x"], "b": ["x"]}, {"a": "x"}, "every image needs a caption. Without one: b."),
        ({"a": ["x"]}, {"a": "x", "c": "x"}, "images with references. Not so: c."),
        ({"a": "a dog"}, {"a": "x"}, "Single strings: a."),
        ({"a": []}, {"a": "x"}, "at least one reference. Without one: a."),
    ],
)
def test_images_that_would_give_wrong_numbers(
    references: dict[str, Any], hypotheses: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scoring.score(references, hypotheses)


def test_bootstrap_resamples_the_corpus_scores() -> None:
    statistics = system(seed=2)
    intervals = scoring.bootstrap_intervals(statistics, resamples=400, confidence=0.9)
    corpus = statistics.corpus()
    assert intervals.keys() == corpus.keys()
    for name, interval in intervals.items():
        assert interval.value == corpus[name]
        assert interval.lower <= interval.value <= interval.upper
        if name in scoring.FIELD_NAMES:
            assert interval.lower < interval.upper

    # The resampled mean of a mean has the standard error of the mean.
    width = intervals["rouge_l"].upper - intervals["rouge_l"].lower
    error = statistics.rouge_l.std() / np.sqrt(len(statistics.ids))
    assert width == pytest.approx(2 * 1.645 * error, rel=0.2)


def test_a_resample_scores_as_the_same_images_in_memory() -> None:
    references = {str(image): [f"a dog {image} runs", "a man sits"] for image in range(3)}
    hypotheses = {"0": "a dog 0 runs", "1": "a red man sits", "2": "dog of the"}
    statistics = scoring.image_statistics(references, hypotheses, with_meteor=False)
    weighted = scoring._weighted(statistics, np.array([[2.0, 0.0, 1.0]]))
    twice = {"0": "0", "again": "0", "2": "2"}
    drawn = scoring.score(
        {image: references[of] for image, of in twice.items()},
        {image: hypotheses[of] for image, of in twice.items()},
        with_meteor=False,
    )
    # CIDEr-D keeps the document frequencies of the full set.
    drawn["cider_d"] = float(np.array([2.0, 0.0, 1.0]) @ statistics.cider_d / 3)
    assert {name: values[0] for name, values in weighted.items()} == pytest.approx(
        {name: drawn[name] for name in weighted}, rel=1e-12
    )


def test_bootstrap_is_the_same_for_the_same_seed() -> None:
    statistics = system(seed=2)
    first, again, other = (
        scoring.bootstrap_intervals(statistics, resamples=50, seed=seed) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_paired_bootstrap_finds_a_difference_that_the_intervals_hide() -> None:
    baseline = system(seed=2, good=0.5)
    better = system(seed=2, good=0.65)
    alone = [scoring.bootstrap_intervals(s, resamples=300) for s in (baseline, better)]
    difference = scoring.paired_bootstrap(better, baseline, resamples=300)["cider_d"]
    assert alone[0]["cider_d"].upper > alone[1]["cider_d"].lower
    assert difference.lower > 0
    assert difference.value == better.corpus()["cider_d"] - baseline.corpus()["cider_d"]


def test_paired_bootstrap_of_a_system_with_itself_in_another_order() -> None:
    statistics = system(seed=2)
    turned = statistics.select(statistics.ids[::-1])
    for interval in scoring.paired_bootstrap(statistics, turned, resamples=20).values():
        assert interval == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_paired_bootstrap_needs_the_same_images() -> None:
    with pytest.raises(ValueError, match=r"on the same images\. In one of them only: 10"):
        scoring.paired_bootstrap(system(2, images=20), system(2, images=30))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resamples": 0}, "`resamples` must be at least 1. Received: 0."),
        ({"confidence": 95}, "`confidence` must be between 0 and 1. Received: 95."),
    ],
)
def test_invalid_bootstrap(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scoring.bootstrap_intervals(system(2, images=3), **arguments)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


COCO_REFERENCES = {
    "images": [{"id": 7}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog ."},
        {"id": 2, "image_id": 7, "caption": "The dog runs ."},
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("coco.json", COCO_REFERENCES, {"7": ["A dog .", "The dog runs ."]}),
        ("plain.json", {"7": ["A dog .", "x"]}, {"7": ["A dog .", "x"]}),
        ("token.txt", "7.jpg#0\tA dog .\r\n7.jpg#1\tx\n\n", {"7.jpg": ["A dog .", "x"]}),
    ],
)
def test_forms_of_references(tmp_path: Path, name: str, content: Any, expected: Any) -> None:
    assert caption_files.read_references(write(tmp_path / name, content)) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", [{"image_id": 7, "caption": "a dog"}]),
        ("plain.json", {"7": "a dog"}),
        ("token.txt", "7#0\ta dog\n"),
        ("bare.txt", "7\ta dog\n"),
    ],
)
def test_forms_of_hypotheses(tmp_path: Path, name: str, content: Any) -> None:
    assert caption_files.read_hypotheses(write(tmp_path / name, content)) == {"7": "a dog"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"7": "a dog"}, "must be a list of strings. Received a single string: 7."),
        ("a.json", {"7": [1]}, "at least one. Received: 7: \\[1\\]."),
        ("a.json", {}, "holds no references"),
        ("a.json", "{", "no valid JSON"),
        ("a.json", '"x"', "must hold a list of objects"),
        ("a.json", [{"image": 1}], "entry 0 must be an object with `image_id` and `caption`"),
        ("a.json", [{"image_id": 1, "caption": ["a"]}], "`caption` of entry 0 must be a string"),
        ("a.txt", "7.jpg a dog\n", "a.txt:1 must be `file#number<TAB>caption`"),
        ("a.txt", "7#0\ta\n7#0\tb\n", "a.txt:2: caption numbers must be unique. Twice: 7#0."),
        ("a.txt", "7#0\t<start> a dog\n", "Received <start> in the caption of 7"),
    ],
)
def test_refused_references(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        caption_files.read_references(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "7#0\ta dog\n7#1\ta cat\n", "every image needs one caption. Received two: 7."),
        ("a.json", {"7": ["a dog"]}, "the caption of an image must be a string"),
        ("a.json", {"7": "startseq a dog endseq"}, "Received endseq, startseq in the caption of 7"),
        ("a.json", {"7": "a dog [SEP]"}, "start, end and padding tokens must be removed"),
        ("a.json", [], "holds no captions"),
    ],
)
def test_refused_hypotheses(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        caption_files.read_hypotheses(write(tmp_path / name, content))


def run_command(*arguments: str | Path) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_command_prints_and_writes_the_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = write(tmp_path / "references.json", REFERENCES)
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    out = tmp_path / "scores.json"
    status = run_command(
        *("--references", references, "--hypotheses", hypotheses, "--json", out, "--no-meteor")
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert "Bleu_4" in printed
    assert "51.53" in printed
    written = json.loads(out.read_text())
    assert written["CIDEr"] == pytest.approx(SCORES["cider_d"], rel=1e-12)
    assert written["ROUGE_L"] == pytest.approx(SCORES["rouge_l"], rel=1e-12)
    assert written["Bleu_1"] == pytest.approx(SCORES["bleu_1"], rel=1e-12)
    assert (written["images"], written["references"]) == (4, 8)
    assert written["unavailable"] == {"METEOR": "left out by --no-meteor"}


def test_command_says_why_meteor_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meteor, "unavailable_reason", lambda: "there is no Java")
    references = write(tmp_path / "references.json", REFERENCES)
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    assert run_command("--references", references, "--hypotheses", hypotheses) == 0
    assert "METEOR is not available: there is no Java." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ({"0": "a dog"}, "h.json: every image needs a caption. Without one: 1, 2, 3."),
        ({**HYPOTHESES, "9": "a dog"}, "Not so: 9."),
    ],
)
def test_command_refuses(tmp_path: Path, hypotheses: dict[str, str], message: str) -> None:
    references = write(tmp_path / "references.json", REFERENCES)
    with pytest.raises(UserError, match=message):
        run_command(
            "--references", references, "--hypotheses", write(tmp_path / "h.json", hypotheses)
        )


def test_command_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read: No such file or directory\."):
        run_command("--references", tmp_path / "none.json", "--hypotheses", tmp_path / "h.json")


def test_command_runs_without_tfx(tmp_path: Path) -> None:
    references = write(tmp_path / "references.json", REFERENCES)
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    code = (
        "import sys\n"
        "from tfx_captioner.pipeline.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "heavy = {'tfx', 'tensorflow', 'apache_beam'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or status)\n"
    )
    arguments = ["score", "--references", references, "--hypotheses", hypotheses, "--no-meteor"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "51.53" in done.stdout
