"""What each choice is worth: trainings that differ in one of them, scored on the dev split.

    captioner run flickr8k --data /path/to/Flickr8k --run-root RUN
    python -m bench.ablation flickr8k --run-root RUN --scores ablation.jsonl --seeds 1 2
    python -m bench.ablation flickr8k --run-root RUN --rows default --seeds 1 2 3 --split test
    python -m bench.ablation flickr8k --run-root RUN --try "larger batches: trainer.batch_size=256"

Takes the features that a finished run made, trains as its Trainer does and captions the dev split
(`val`) once per training, by the served decoding. Choose on dev; `--split test` is for the rows
that are reported. Every row is held against the default of the same model and seeds: the mean
difference, and its interval by a bootstrap over images that scores both on the same draws.

What is trained is added to the file of scores, with its captions; what is in it is not trained
again, so several processes can work on one file, each on other rows. Ends with a table per model
of all that the file holds of the same `--set` and split.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import tensorflow as tf

    from tfx_captioner.metrics.statistics import ImageStatistics
    from tfx_captioner.models.captioner import Captioner
    from tfx_captioner.models.config import DecodingConfig, RunConfig
    from tfx_captioner.models.vocabulary import Vocabulary

# Row of the table to what it overrides of the preset; `model.` stands for `models.NAME.`. The
# beam search that chooses the epoch is overridden along with the one that is served.
ROWS: dict[str, tuple[str, ...]] = {
    "default": (),
    "no concepts": ("model.decoder.concepts=0",),
    "no attention": ("model.decoder.attention=none",),
    "additive attention": ("model.decoder.attention=additive",),
    "gate": ("model.decoder.gate=true",),
    "layer normalization": ("model.decoder.layer_norm=true",),
    "output weights of their own": ("model.decoder.tie_embeddings=false",),
    "no label smoothing": ("trainer.label_smoothing=0",),
    "no average of weights": ("trainer.ema_momentum=0",),
    "scheduled sampling": ("trainer.scheduled_sampling=0.25",),
    "float32 products": ("trainer.matmul_dtype=float32",),
    "any word may be repeated": ("decoding.repeatable_words=null",),
    "one beam": ("decoding.beam_size=1",),
}
_SHOWN = ("bleu_1", "bleu_4", "meteor", "rouge_l", "cider_d", "distinct_2", "vocabulary_coverage")
_SPLITS = {"dev": "val", "test": "test"}
_BATCH = 64
_WIDTH = 190


@dataclasses.dataclass(frozen=True)
class Featurized:
    """What a finished run has for the training of a model.

    Attributes:
      run: Settings of the training.
      decoding: Beam search that captions the split.
      examples: Folder of featurized examples, a folder per split.
      transform_graph: Folder of the vocabulary.
    """

    run: RunConfig
    decoding: DecodingConfig
    examples: str
    transform_graph: str

    def files(self, split: str) -> list[str]:
        """Files of a split."""
        return sorted(str(path) for path in Path(self.examples, f"Split-{split}").iterdir())


def finished_run(preset: str, overrides: Sequence[str], model: str, row: str) -> Featurized:
    """Finds what the last run of a preset made for a model whose encoder is frozen, or in part.

    Args:
      preset: Name or file of the run's preset.
      overrides: Settings of all rows, `KEY=VALUE`.
      model: Name of the model.
      row: Name of the row, whose settings go over the others.
    """
    from tfx_captioner.models.config import RunConfig
    from tfx_captioner.pipeline.configs import load_config
    from tfx_captioner.pipeline.runs import latest_outputs, open_store

    changes = [change.replace("model.", f"models.{model}.", 1) for change in ROWS[row]]
    changes += [f"trainer.validation_{c}" for c in changes if c.startswith("decoding.")]
    config = load_config(preset, [*overrides, *changes])
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


def with_seed(finished: Featurized, seed: int) -> Featurized:
    """A finished run with another seed."""
    trainer = dataclasses.replace(finished.run.trainer, seed=seed)
    return dataclasses.replace(finished, run=dataclasses.replace(finished.run, trainer=trainer))


def train_and_caption(finished: Featurized, splits: Sequence[str]) -> dict[str, Any]:
    """Trains once and captions splits.

    Returns:
      Captions by image id for each split, the best epoch, the history of the training and its
      minutes.
    """
    from tfx_captioner.models.distribution import Replicas
    from tfx_captioner.models.trainer import initial_model, read_split, read_train_split
    from tfx_captioner.models.training import CaptionerTraining
    from tfx_captioner.models.vocabulary import load_vocabulary

    run = finished.run
    vocabulary = load_vocabulary(finished.transform_graph)
    encoder, captioner = initial_model(run, vocabulary, Replicas())
    began = time.monotonic()
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
    minutes = (time.monotonic() - began) / 60
    captions = {}
    for split in splits:
        features = split_features(finished.files(_SPLITS[split]), encoder.frozen_shape)
        captions[split] = caption(captioner, vocabulary, finished.decoding, features)
    return {
        "captions": captions,
        "epoch": progress.best_epoch,
        "history": progress.history,
        "minutes": round(minutes, 1),
    }


def split_features(files: Sequence[str], shape: tuple[int, ...]) -> tf.data.Dataset:
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


def tables(
    entries: Sequence[Mapping[str, Any]], references: Mapping[str, Sequence[str]], split: str
) -> Iterator[Table]:
    """A table for each model: mean over seeds, and the difference from the default.

    Args:
      entries: What the file of scores holds.
      references: Captions of each image of the split.
      split: "dev" or "test".
    """
    from tfx_captioner.metrics import meteor
    from tfx_captioner.metrics.references import TokenizedReferences
    from tfx_captioner.metrics.statistics import image_statistics

    tokenized = TokenizedReferences.of(references)
    with_meteor = meteor.unavailable_reason() is None
    for model in sorted({entry["model"] for entry in entries}):
        by_row: dict[str, dict[int, ImageStatistics]] = {}
        minutes: dict[str, list[float]] = {}
        for entry in entries:
            if entry["model"] == model and split in entry["captions"]:
                captions = entry["captions"][split]
                statistics = image_statistics(tokenized, captions, with_meteor=with_meteor)
                by_row.setdefault(entry["row"], {})[entry["seed"]] = statistics
                minutes.setdefault(entry["row"], []).append(entry["minutes"])
        title = f"{model} on {split}, x 100"
        table = Table("row", "seeds", "minutes", *_SHOWN, "CIDEr-D - default", title=title)
        default = by_row.get("default", {})
        for row, of_seed in sorted(by_row.items(), key=lambda item: list(ROWS).index(item[0])):
            values = [statistics.corpus() for statistics in of_seed.values()]
            table.add_row(
                row,
                ", ".join(map(str, sorted(of_seed))),
                f"{sum(minutes[row]) / len(minutes[row]):.0f}",
                *(_spread([value[m] for value in values if m in value]) for m in _SHOWN),
                "" if row == "default" else _difference(of_seed, default),
            )
        yield table


def _difference(row: Mapping[int, Any], default: Mapping[int, Any]) -> str:
    """Mean difference in CIDEr-D over the seeds that both have, and its 95 % interval."""
    import numpy as np

    seeds = sorted(set(row) & set(default))
    if not seeds:
        return "-"
    # The captions of all seeds for one image belong together: an image is drawn with all of them.
    per_image = np.mean(
        [row[s].images()["cider_d"] - default[s].images()["cider_d"] for s in seeds], axis=0
    )
    images = len(per_image)
    draws = np.random.default_rng(0).integers(images, size=(1000, images))
    low, high = np.quantile(per_image[draws].mean(axis=1), [0.025, 0.975])
    return f"{100 * per_image.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * sum(values) / len(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} [{100 * min(values):.1f}, {100 * max(values):.1f}]"


def main() -> None:
    """Trains what is missing and prints the tables."""
    from tfx_captioner.components.examples import read_captions

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", nargs="?", help="of a finished run")
    parser.add_argument("--run-root", metavar="PATH", help="of that run, if not the preset's own")
    parser.add_argument("--scores", type=Path, default=Path("ablation.jsonl"), metavar="FILE")
    parser.add_argument("--models", nargs="+", default=["resnet_gru"], metavar="NAME")
    parser.add_argument("--rows", nargs="*", metavar="ROW")
    parser.add_argument("--try", nargs="*", default=[], metavar="NAME: KEY=VALUE …", dest="tries")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--split", choices=_SPLITS, default="dev", help="that is tabulated")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A cell that is cut says nothing.
    console = Console(highlight=False, width=max(Console().width, _WIDTH))
    if arguments.preset is None:
        console.print("Left out: hours, on a finished run. `python -m bench.ablation flickr8k`")
        return
    for row in arguments.tries:
        name, _, changes = row.partition(": ")
        ROWS[name] = tuple(changes.split())
    root = [f"run_root={arguments.run_root}"] if arguments.run_root else []
    rows = [name for name, *_ in (t.partition(": ") for t in arguments.tries)]
    rows = arguments.rows if arguments.rows is not None else rows or list(ROWS)
    if unknown := set(rows) - set(ROWS):
        raise SystemExit(f"--rows must be of {', '.join(ROWS)}. Received: {', '.join(unknown)}.")
    for model, row, seed in itertools.product(arguments.models, rows, arguments.seeds):
        known = read_scores(arguments.scores, arguments.overrides)
        if (model, row, seed) in {(entry["model"], entry["row"], entry["seed"]) for entry in known}:
            continue
        console.print(f"{model}, {row}, seed {seed}")
        finished = finished_run(arguments.preset, [*root, *arguments.overrides], model, row)
        made = train_and_caption(with_seed(finished, seed), list(_SPLITS))
        entry = {"model": model, "row": row, "seed": seed, "set": arguments.overrides}
        with arguments.scores.open("a") as file:
            file.write(json.dumps({**entry, **made}) + "\n")
    finished = finished_run(
        arguments.preset, [*root, *arguments.overrides], arguments.models[0], "default"
    )
    references = read_captions(finished.files(_SPLITS[arguments.split]))
    known = [e for e in read_scores(arguments.scores, arguments.overrides) if e["row"] in ROWS]
    for table in tables(known, references, arguments.split):
        console.print(table)


if __name__ == "__main__":
    main()
