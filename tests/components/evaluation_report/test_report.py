"""What a report says, and that text from outside cannot break out of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact, write_records
from tests.components.walls import Bench, png, settings, wall
from tfx_captioner.components import scores as names
from tfx_captioner.components.artifacts import EvaluationPages
from tfx_captioner.components.caption_evaluator.blessing import (
    Baseline,
    BaselineStatus,
    Interval,
    Reason,
    Verdict,
)
from tfx_captioner.components.caption_evaluator.summary import (
    EvaluationSummary,
    read_summary,
    write_summary,
)
from tfx_captioner.components.caption_files import write_captions, write_json, write_references
from tfx_captioner.components.evaluation_report.charts import word_use
from tfx_captioner.components.evaluation_report.comparison import (
    Comparison,
    compare,
    read_evaluations,
)
from tfx_captioner.components.evaluation_report.executor import Executor
from tfx_captioner.components.evaluation_report.gallery import (
    BEST,
    RANDOM,
    WORST,
    Picture,
    Word,
    choose,
    make_gallery,
    read_gallery,
    write_gallery,
)
from tfx_captioner.components.evaluation_report.report import (
    TrainingHistory,
    read_history,
    render_report,
    warnings,
    write_history,
)
from tfx_captioner.components.statistics_files import write_statistics
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import image_statistics, score

REFERENCES = {"1.png": ("a <b>red</b> wall",), "2.png": ("a blue wall", "blue")}
CAPTIONS = {"1.png": "a <script>wall</script>", "2.png": ""}
PICTURE = Picture("1.png", RANDOM, 0.5, CAPTIONS["1.png"], REFERENCES["1.png"], "data:,", 4, 3)


def summary(**changes: Any) -> EvaluationSummary:
    values: dict[str, Any] = {
        "model_name": "walls",
        "split": "test",
        "split_fingerprint": "f00",
        "image_count": 2,
        "verdict": Verdict(False, (Reason("bleu_4 does not reach 0.3.", False),)),
        "baseline": Baseline(BaselineStatus.NONE),
        "scores": {
            "all images": {"bleu_4": 0.25, "meteor": float("nan"), "mean_caption_length": 3.0},
            "people: yes": {"bleu_4": 0.5, "meteor": None, "mean_caption_length": 2.0},
        },
        "slice_sizes": {"all images": 2, "people: yes": 1},
        "intervals": {"all images": {"bleu_4": Interval(0.25, 0.2, 0.3)}},
    }
    return EvaluationSummary(**{**values, **changes})


def test_verdict_comes_before_scores_and_scores_have_intervals() -> None:
    page = render_report(summary(), CAPTIONS, REFERENCES, [PICTURE], None)
    assert page.index("Not blessed") < page.index("bleu_4 does not reach 0.3.")
    assert page.index("bleu_4 does not reach 0.3.") < page.index("25.0")
    assert "[20.0, 30.0]" in page
    assert "95% intervals" in page


def test_scores_come_with_the_words_they_are_counted_in() -> None:
    page = render_report(summary(), CAPTIONS, REFERENCES, [], None)
    assert "Language en; counted in Penn Treebank words, as the COCO caption evaluation" in page
    changes = {"language": "ja", "segmentation": "characters", "warning": "Not so."}
    page = render_report(summary(**changes), CAPTIONS, REFERENCES, [], None)
    assert "Language ja; counted in characters: each character of a script" in page
    assert "<li>Not so.</li>" in page


def test_text_from_outside_is_escaped() -> None:
    page = render_report(summary(), CAPTIONS, REFERENCES, [PICTURE], None)
    assert "a &lt;script&gt;wall" in page
    assert "<script" not in page
    assert "<b>red" not in page


def test_not_a_number_survives_the_file_as_missing(tmp_path: Path) -> None:
    write_summary(str(tmp_path), summary())
    read = read_summary(str(tmp_path))
    assert read.scores["all images"] == {
        "bleu_4": 0.25,
        "meteor": None,
        "mean_caption_length": 3.0,
    }
    assert read.intervals["all images"]["bleu_4"] == Interval(0.25, 0.2, 0.3)


def test_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no evaluation of a CaptionEvaluator"):
        read_summary(str(tmp_path))


def test_reader_is_told_what_was_left_out_and_who_is_better() -> None:
    told = " ".join(
        warnings(
            summary(
                undecodable={f"{i}.jpg": "" for i in range(7)},
                empty=["2.png"],
                refused=["2.png"],
            )
        )
    )
    assert "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more" in told
    assert "empty caption, since the model gave none: 2.png" in told
    assert "model failed on these of them: 2.png" in told


def test_lines_to_compare_with_are_in_every_table() -> None:
    lines = {
        names.HUMAN: {
            "all images": {"bleu_4": 0.613, "mean_caption_length": 7.7},
            "people: yes": {"rouge_l": 0.442},
        }
    }
    scores = {
        "all images": {"bleu_4": 0.25, "rouge_l": 0.3, "mean_caption_length": 3.0},
        "people: yes": {"bleu_4": 0.5, "rouge_l": 0.4, "mean_caption_length": 2.0},
    }
    page = render_report(summary(context=lines, scores=scores), CAPTIONS, REFERENCES, [], None)
    assert page.count("<th>human</th>") == 2
    assert "<th>ROUGE-L: human</th>" in page
    assert [value for value in ("61.3", "7.7", "44.2") if value not in page] == []


def test_missing_lines_are_explained() -> None:
    page = render_report(
        summary(unavailable={names.NEAREST: "no features"}), CAPTIONS, REFERENCES, [], None
    )
    assert "No nearest neighbour: no features." in page


def test_learning_curves_of_the_model_run(tmp_path: Path) -> None:
    history = [{"epoch": epoch, "loss": 2.0 / epoch, "val_loss": 2.5 / epoch} for epoch in (1, 2)]
    content = {"history": history, "best_epoch": 2}
    (tmp_path / "history.json").write_text(json.dumps(content))
    run = make_artifact(standard_artifacts.ModelRun, tmp_path)
    page = render_report(summary(), CAPTIONS, REFERENCES, [], read_history([run.uri]))
    assert "Learning curves" in page
    assert "nats per token" in page
    assert read_history([]) is None


def test_random_images_do_not_depend_on_the_scores() -> None:
    ids = [f"{number}.png" for number in range(20)]
    first = choose({key: float(row) for row, key in enumerate(ids)}, 3, seed=1)
    second = choose({key: -float(row) for row, key in enumerate(ids)}, 3, seed=1)
    assert [key for key, (group, _) in first.items() if group == RANDOM] == [
        key for key, (group, _) in second.items() if group == RANDOM
    ]
    rest = [key for key in ids if first.get(key, ("",))[0] != RANDOM]
    assert [key for key, (group, _) in first.items() if group == WORST] == rest[:3]
    assert [key for key, (group, _) in first.items() if group == BEST] == rest[:-4:-1]


def test_few_images_are_shown_once() -> None:
    chosen = choose({"1": 0.1, "2": 0.2, "3": 0.3}, 2, seed=1)
    assert sorted(chosen) == ["1", "2", "3"]


@pytest.mark.parametrize("flat", [False, True], ids=["attention", "none to speak of"])
def test_gallery_lays_attention_over_thumbnails(tmp_path: Path, flat: bool) -> None:
    path = write_records(tmp_path / "records.gz", [wall("1.png", png("red"), ["a red wall"])])

    class Captioner:
        def attention(self, image: bytes) -> tuple[list[str], np.ndarray]:
            maps = np.full((2, 3, 3), 1 / 9, np.float32)
            if not flat:
                maps[0, 1, 1] = 0.9
            return ["red", "wall"], maps

    chosen = {"1.png": (RANDOM, 0.5)}
    captions = {"1.png": "red wall"}
    pictures = make_gallery([str(path)], chosen, REFERENCES, captions, None, Captioner())
    write_gallery(str(tmp_path), pictures)
    (picture,) = read_gallery(str(tmp_path))
    assert [word.text for word in picture.words] == ([] if flat else ["red", "wall"])
    assert picture.thumbnail.startswith("data:image/jpeg;base64,")
    assert picture.width > picture.height


def test_word_use_shows_what_is_said_too_often() -> None:
    svg = word_use(["a dog", "a dog"], ["a cat", "a dog"])
    assert svg.index(">dog<") > svg.index(">cat<")
    assert ' width="' not in svg.split(">", 1)[0]


def evaluation(folder: Path, captions: dict[str, str] = CAPTIONS, **changes: Any) -> str:
    folder.mkdir()
    write_summary(str(folder), summary(**changes))
    write_captions(str(folder), captions)
    write_references(str(folder), REFERENCES)
    write_gallery(str(folder), [PICTURE])
    references = TokenizedReferences.of(REFERENCES)
    write_statistics(str(folder), image_statistics(references, captions, with_meteor=False))
    return str(folder)


def side_by_side(uris: list[str], **options: Any) -> Comparison:
    """Compares evaluations whose reports lie in the same folder."""
    return compare(read_evaluations({uri: uri for uri in uris}), **options)


def test_comparison_has_paired_differences(tmp_path: Path) -> None:
    better = {"1.png": "a <b>red</b> wall", "2.png": "a blue wall"}
    uris = [evaluation(tmp_path / "a", better), evaluation(tmp_path / "b")]
    result = side_by_side(uris)
    difference = result.differences["bleu_1"]
    ours, theirs = (
        score(REFERENCES, captions, with_meteor=False)["bleu_1"] for captions in (better, CAPTIONS)
    )
    assert difference.value == ours - theirs > 0
    assert difference.lower is not None
    assert difference.lower > 0
    assert f"{100 * difference.value:+.1f}" in result.html
    assert [each.label for each in result.evaluations] == ["walls (1)", "walls (2)"]


def test_comparison_has_the_verdicts_first_and_what_both_looked_at(tmp_path: Path) -> None:
    words = (Word("wall", "data:image/png;base64,"),)
    lines = {names.NEAREST: {"all images": {"bleu_4": 0.1}}}
    uris = [evaluation(tmp_path / name, context=lines) for name in ("a", "b")]
    other = {names.NEAREST: {"all images": {"bleu_4": 0.2}}}
    write_summary(uris[1], summary(context=other, model_name="other"))
    for uri, group in zip(uris, (WORST, BEST), strict=True):
        pictures = [dataclasses.replace(PICTURE, words=words)]
        alone = dataclasses.replace(PICTURE, image_id="2.png", group=group)
        write_gallery(uri, [*pictures, alone])
    history = TrainingHistory([{"epoch": 1, "loss": 2.0, "val_loss": 2.5}], 1)
    write_history(uris[0], history)
    page = side_by_side(uris, headline="A choice.").html
    parts = ["A choice.", "Not blessed", "BLEU-4", "Learning curves: walls", "Images by chance"]
    assert [page.index(part) for part in parts] == sorted(page.index(part) for part in parts)
    assert page.count("where it looked") == 2
    assert "Worst captions of walls" in page
    # The second gallery's best is the first one's worst, and shown once.
    assert "Best captions of other" not in page
    assert "nearest neighbour, walls" in page
    assert "nearest neighbour, other" in page
    assert "people: yes" in page


def test_comparison_has_the_lines_to_compare_with_in_every_slice(tmp_path: Path) -> None:
    overall = {"bleu_4": 0.25, "cider_d_train_idf": 0.3}
    scores = {"all images": overall, "people: yes": {"bleu_4": 0.5, "cider_d_train_idf": 0.4}}

    def lines(nearest: float) -> dict[str, Any]:
        values = {names.HUMAN: 0.911, names.MOST_FREQUENT: 0.122, names.RANDOM: 0.133}
        return {
            line: {"all images": overall, "people: yes": {"cider_d_train_idf": value}}
            for line, value in {**values, names.NEAREST: nearest}.items()
        }

    uris = [
        evaluation(tmp_path / name, model_name=name, scores=scores, context=lines(nearest))
        for name, nearest in (("one", 0.344), ("other", 0.355))
    ]
    page = side_by_side(uris).html
    table = page[page.index("<th>slice</th>") :].split("</table>", 1)[0]
    headings = [
        f"<th>CIDEr-D, train idf: {line}</th>"
        for line in (
            *(names.HUMAN, names.MOST_FREQUENT, names.RANDOM),
            *(f"{names.NEAREST}, {name}" for name in ("one", "other")),
        )
    ]
    assert [table.count(heading) for heading in headings] == [1] * 5
    row = table[table.index("people: yes") :].split("</tr>", 1)[0]
    cells = [f"<td>{value}</td>" for value in ("91.1", "12.2", "13.3", "34.4", "35.5")]
    assert [row.count(cell) for cell in cells] == [1] * 5


def test_evaluations_of_other_images_do_not_compare(tmp_path: Path) -> None:
    uris = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b", split_fingerprint="other")]
    with pytest.raises(ValueError, match="only on the same images and references"):
        side_by_side(uris)


@pytest.fixture(scope="module")
def pages(bench: Bench) -> Path:
    """Pages of two models, one of them compared with the other as its baseline."""
    run = make_artifact(standard_artifacts.ModelRun, bench.root / "model_run")
    Path(run.uri).mkdir()
    history = {"history": [{"epoch": 1, "loss": 2.0, "val_loss": 2.5}], "best_epoch": 1}
    (Path(run.uri) / "history.json").write_text(json.dumps(history))
    selection = make_artifact(standard_artifacts.ModelBlessing, bench.root / "selection")
    write_json(selection.uri, "selection.json", {"reason": "one was chosen: it scores best."})
    inputs = {}
    for name, model, baseline in (("one", "good", "fair"), ("other", "fair", None)):
        evaluated = bench.evaluate(
            bench.model(model), settings(), bench.model(baseline) if baseline else None
        )
        inputs |= {
            f"evaluation_{name}": evaluated.evaluation,
            f"model_{name}": bench.model(model),
            f"model_run_{name}": run,
        }
    made = bench.execute(
        Executor(),
        {"pages": EvaluationPages},
        {"models": "one,other", "gallery_size": 2, "seed": 1},
        examples=bench.examples,
        selection=selection,
        **inputs,
    )
    return Path(made["pages"].uri)


@pytest.mark.slow(reason="two runs of TFMA")
def test_each_report_is_one_file_that_fetches_nothing(pages: Path) -> None:
    for name in ("one", "other"):
        page = (pages / name / "report.html").read_text()
        assert page.index("Blessed") < page.index("BLEU-4")
        assert "silent.png" in page
        assert "Learning curves" in page
        assert ("baseline" in page) is (name == "one")
        assert "<script" not in page
        # The only addresses are the names of SVG's XML namespaces.
        assert page.count("http") == page.count('xmlns="http') + page.count('xmlns:xlink="http')


@pytest.mark.slow(reason="two runs of TFMA")
def test_the_comparison_says_what_was_chosen_and_shows_both_captions(pages: Path) -> None:
    page = (pages / "comparison.html").read_text()
    assert "one was chosen: it scores best." in page
    assert "a plain red wall in the sun" in page
    assert "<h1>one and other</h1>" in page
