"""What each choice is worth: trainings that differ in one of them, scored on the test split.

    captioner run flickr8k --data /path/to/Flickr8k
    python -m bench.ablation flickr8k --scores ablation.jsonl
    python -m bench.ablation flickr8k --scores ablation.jsonl --rows default --seeds 1 2 3

Takes the features that a finished run made, trains as its Trainer does and captions the test split
once per training. What is trained is added to the file of scores; what is in it is not trained
again, so several can be at work on one file, each at other rows. Ends with the table of all that
the file holds of the same `--set`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import tensorflow as tf

    from tfx_captioner.models.captioner import Captioner
    from tfx_captioner.models.config import DecodingConfig, RunConfig
    from tfx_captioner.models.vocabulary import Vocabulary

# Row of the table to what it sets. What it sets of the decoding counts where the epoch is chosen as
# well as where the test split is captioned.
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "all sources alike": {"source_mix": {"auxiliary": (), "target_share": 0.0}},
    "target not oversampled": {"source_mix": {"target_share": 0.0}},
    "no concepts": {"decoder": {"concepts": 0.0}},
    "no attention": {"decoder": {"attention": "none"}},
    "no label smoothing": {"trainer": {"label_smoothing": 0.0}},
    "no average of weights": {"trainer": {"ema_momentum": 0.0}},
    "scheduled sampling": {"trainer": {"scheduled_sampling": 0.25}},
    "any word may be repeated": {"decoding": {"repeatable_words": None}},
}
_BATCH = 64
_WIDTH = 190


@dataclasses.dataclass(frozen=True)
class Featurized:
    """What a finished run has for the training of a model.

    Attributes:
      run: Settings of the training.
      decoding: Beam search that captions the test split.
      examples: Folder of featurized examples, a folder per split.
      transform_graph: Folder of the vocabulary.
    """

    run: RunConfig
    decoding: DecodingConfig
    examples: str
    transform_graph: str

    def files(self, split: str) -> list[str]:
        """File patterns of a split."""
        return [f"{self.examples}/Split-{split}/*"]


def finished_run(preset: str, overrides: Sequence[str], model: str) -> Featurized:
    """Finds what the last run of a preset made for a model whose encoder is frozen, or in part."""
    from tfx_captioner.models.config import RunConfig
    from tfx_captioner.pipeline.configs import load_config
    from tfx_captioner.pipeline.runs import latest_outputs, open_store

    config = load_config(preset, overrides)
    encoder = config.models[model].encoder
    if not encoder.has_frozen_part:
        raise SystemExit(f"{model} of {preset} trains its encoder: there are no features to take.")
    outputs = latest_outputs(open_store(config.root / "metadata.db"), config.name)
    [featurizer] = [node for node, of in config.featurized_encoders().items() if of == encoder]
    run = RunConfig(
        model_name=model,
        model=config.models[model],
        text=config.text,
        trainer=config.trainer,
        code_fingerprint="",
        checkpoint_root="",
    )
    return Featurized(
        run,
        config.decoding,
        outputs[f"ImageFeaturizer.{featurizer}"]["examples"].uri,
        outputs["Transform"]["transform_graph"].uri,
    )


def with_row(finished: Featurized, row: str, seed: int) -> Featurized:
    """A finished run with the settings of a row."""
    sections = ("decoder", "trainer", "source_mix", "decoding")
    changes = {name: ROWS[row].get(name, {}) for name in sections}
    run = finished.run
    validation = dataclasses.replace(run.trainer.validation_decoding, **changes["decoding"])
    trainer = dataclasses.replace(
        run.trainer,
        seed=seed,
        validation_decoding=validation,
        source_mix=dataclasses.replace(run.trainer.source_mix, **changes["source_mix"]),
        **changes["trainer"],
    )
    decoder = dataclasses.replace(run.model.decoder, **changes["decoder"])
    model = dataclasses.replace(run.model, decoder=decoder)
    return dataclasses.replace(
        finished,
        run=dataclasses.replace(run, model=model, trainer=trainer),
        decoding=dataclasses.replace(finished.decoding, **changes["decoding"]),
    )


def train_and_score(finished: Featurized) -> dict[str, dict[str, float]]:
    """Trains once; scores of the test split, by beam search as set and with one beam."""
    from tfx_captioner.components.caption_evaluator.images import read_captions
    from tfx_captioner.metrics import meteor
    from tfx_captioner.metrics.scoring import FIELD_NAMES, score
    from tfx_captioner.models.distribution import Replicas
    from tfx_captioner.models.trainer import initial_model, read_split, read_train_split
    from tfx_captioner.models.training import CaptionerTraining
    from tfx_captioner.models.vocabulary import load_vocabulary

    run = finished.run
    vocabulary = load_vocabulary(finished.transform_graph)
    encoder, captioner = initial_model(run, vocabulary, Replicas())
    with tempfile.TemporaryDirectory() as folder:
        progress = CaptionerTraining(
            captioner,
            run.trainer,
            read_train_split(finished.files("train"), run, encoder),
            read_split(finished.files("val"), run, encoder),
            vocabulary=vocabulary,
            grid=encoder.grid,
            checkpoint_dir=f"{folder}/checkpoint",
            log_dir=f"{folder}/log",
        ).run()
    files = sorted(str(path) for path in Path(finished.examples, "Split-test").iterdir())
    references = read_captions(files)
    scores = {"validation": {"CIDEr": progress.best["val_cider_d"], "epoch": progress.best_epoch}}
    for name, beams in (("beams", finished.decoding.beam_size), ("one beam", 1)):
        decoding = dataclasses.replace(finished.decoding, beam_size=beams)
        features = test_features(files, encoder.frozen_shape)
        captions = caption(captioner, vocabulary, decoding, features)
        values = score(references, captions, with_meteor=meteor.unavailable_reason() is None)
        scores[name] = {field: values[key] for key, field in FIELD_NAMES.items() if key in values}
    return scores


def test_features(files: Sequence[str], shape: tuple[int, ...]) -> tf.data.Dataset:
    """Image ids [n] and features [n, *shape] of featurized examples."""
    import tensorflow as tf

    spec = {
        "image/id": tf.io.FixedLenFeature([], tf.string),
        "image/features": tf.io.FixedLenFeature([], tf.string),
    }

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(record, spec)
        features = tf.io.decode_raw(example["image/features"], tf.float16)
        return example["image/id"], tf.reshape(features, shape)

    return tf.data.TFRecordDataset(files, compression_type="GZIP").map(parse).batch(_BATCH)


def caption(
    captioner: Captioner, vocabulary: Vocabulary, decoding: DecodingConfig, data: tf.data.Dataset
) -> dict[str, str]:
    """Image id to caption."""
    import tensorflow as tf

    from tfx_captioner.models import text
    from tfx_captioner.models.decoding import DecoderSteps, beam_search

    @tf.function(input_signature=[data.element_spec[1]], autograph=False)
    def generate(features: tf.Tensor) -> tf.Tensor:
        encoded = captioner.encode(features)
        hypotheses = beam_search(DecoderSteps(captioner.decoder), encoded, decoding, vocabulary)
        return text.detokenize(vocabulary.words(hypotheses.token_ids[:, 0]))

    captions: dict[str, str] = {}
    for ids, features in data:
        generated = generate(features).numpy()
        captions |= {
            image.decode(): words.decode()
            for image, words in zip(ids.numpy(), generated, strict=True)
        }
    return captions


def read_scores(path: Path, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """What is in the file of scores so far, of trainings with the same settings by `--set`."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return [entry for entry in map(json.loads, lines) if sorted(entry["set"]) == sorted(overrides)]


def tables(scores: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """A table for each model: mean over seeds, and the range where there are several."""
    from tfx_captioner.metrics.scoring import FIELD_NAMES

    metrics = FIELD_NAMES.values()
    for model in sorted({entry["model"] for entry in scores}):
        table = Table("row", "seeds", "CIDEr-D on val", *metrics, title=f"{model}, x 100")
        for row in ROWS:
            entries = [entry for entry in scores if (entry["model"], entry["row"]) == (model, row)]
            if not entries:
                continue
            judged = [entry["scores"]["validation"]["CIDEr"] for entry in entries]
            for decoding, title in (("beams", row), ("one beam", "  with one beam")):
                if decoding == "one beam" and row != "default":
                    continue
                values = [entry["scores"][decoding] for entry in entries]
                table.add_row(
                    title,
                    ", ".join(str(entry["seed"]) for entry in entries),
                    _spread(judged),
                    *(_spread([value[m] for value in values if m in value]) for m in metrics),
                )
        yield table


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * sum(values) / len(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} [{100 * min(values):.1f}, {100 * max(values):.1f}]"


def main() -> None:
    """Trains what is missing and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", nargs="?", help="of a finished run")
    parser.add_argument("--scores", type=Path, default=Path("ablation.jsonl"), metavar="FILE")
    parser.add_argument("--models", nargs="+", default=["resnet_gru"], metavar="NAME")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A cell that is cut says nothing.
    console = Console(highlight=False, width=max(Console().width, _WIDTH))
    if arguments.preset is None:
        console.print("Left out: hours, on a finished run. `python -m bench.ablation flickr8k`")
        return
    wanted = itertools.product(arguments.models, arguments.rows, arguments.seeds)
    for model, row, seed in wanted:
        known = read_scores(arguments.scores, arguments.overrides)
        done = {(entry["model"], entry["row"], entry["seed"]) for entry in known}
        if (model, row, seed) in done:
            continue
        console.print(f"{model}, {row}, seed {seed}")
        finished = finished_run(arguments.preset, arguments.overrides, model)
        scores = train_and_score(with_row(finished, row, seed))
        with arguments.scores.open("a") as file:
            entry = {"model": model, "row": row, "seed": seed, "set": arguments.overrides}
            file.write(json.dumps({**entry, "scores": scores}) + "\n")
    for table in tables(read_scores(arguments.scores, arguments.overrides)):
        console.print(table)


if __name__ == "__main__":
    main()
