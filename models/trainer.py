"""`run_fn` of the TFX Trainer: from examples to trained weights."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import keras

from tfx_captioner.models.captioner import Captioner, build_captioner
from tfx_captioner.models.checkpoints import training_key
from tfx_captioner.models.config import DecoderConfig, RunConfig
from tfx_captioner.models.data import CaptionData, read_features, read_pixels
from tfx_captioner.models.data_config import parse, to_plain
from tfx_captioner.models.decoders.recurrent import RecurrentDecoder
from tfx_captioner.models.decoding import check_repeatable_words
from tfx_captioner.models.distribution import Replicas, choose_strategy
from tfx_captioner.models.encoders import Encoder, build_encoder
from tfx_captioner.models.hyperparameters import with_hyperparameters
from tfx_captioner.models.training import CaptionerTraining
from tfx_captioner.models.vocabulary import Vocabulary, load_vocabulary
from tfx_captioner.models.weights import TrainedModel, check_frozen_part, save_trained
from tfx_captioner.models.word_vectors import read_word_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tfx.components.trainer.fn_args_utils import FnArgs

logger = logging.getLogger("captioner.models")


def run_fn(fn_args: FnArgs) -> None:
    """Trains one captioning model and writes its weights.

    What is written into `fn_args.serving_model_dir` is read by `models.weights.load_trained`; the
    Exporter makes the SavedModel of it.

    Where all of the encoder is trained, `train_files` and `eval_files` are transformed examples;
    where none or a part of it is, featurized examples of that encoder.

    Args:
      fn_args: Arguments as TFX gives them; `custom_config["run"]` is a `RunConfig` as plain data,
        and `hyperparameters`, where a Tuner found some, go over it.

    Raises:
      EncoderError: The encoder cannot be built, or built again when the model is exported.
      ValueError: Examples that do not fit the model, or an unknown hyper-parameter.
      NonFiniteLossError: The loss became NaN or infinite.
    """
    run = parse(RunConfig, fn_args.custom_config["run"])
    # Before anything else: only a TensorFlow that is fresh can reach other processes.
    replicas = Replicas(choose_strategy())
    if fn_args.hyperparameters:
        run = with_hyperparameters(run, fn_args.hyperparameters)
        logger.info("hyper-parameters: %s", fn_args.hyperparameters["values"])
    check_frozen_part(run.model.encoder)
    vocabulary = load_vocabulary(fn_args.transform_graph_path)
    encoder, captioner = initial_model(run, vocabulary, replicas)

    train = read_train_split(fn_args.train_files, run, encoder)
    val = read_split(fn_args.eval_files, run, encoder)
    logger.info(
        "%s: %d images, %d captions, vocabulary of %d, %.1f million weights to train%s",
        run.model_name,
        train.num_images,
        train.num_captions,
        vocabulary.size,
        sum(weight.value.shape.num_elements() for weight in captioner.trainable_variables) / 1e6,
        f", on {replicas.count} replicas" if replicas.count > 1 else "",
    )
    key = training_key(
        to_plain(run), [*fn_args.train_files, *fn_args.eval_files, fn_args.transform_graph_path]
    )
    training = CaptionerTraining(
        captioner,
        run.trainer,
        train,
        val,
        vocabulary=vocabulary,
        grid=encoder.grid,
        checkpoint_dir=f"{run.checkpoint_root}/{key}",
        log_dir=fn_args.model_run_dir,
        replicas=replicas,
    )
    progress = training.run()
    if replicas.is_chief:
        facts = {
            "key": key,
            "best_epoch": progress.best_epoch,
            "matmul_dtype": progress.matmul_dtype,
            **progress.best,
        }
        trained = TrainedModel(run, encoder, captioner, facts)
        save_trained(fn_args.serving_model_dir, trained, vocabulary)
        training.checkpoint.remove()
    # TFX looks for the model as soon as this function is over, in every process.
    replicas.wait()


def initial_model(
    run: RunConfig, vocabulary: Vocabulary, replicas: Replicas
) -> tuple[Encoder, Captioner]:
    """Builds the model a training starts from, which the seed of the settings determines.

    Args:
      run: Settings of the training.
      vocabulary: Words of the captions.
      replicas: Replicas that the model will have.

    Raises:
      ValueError: Settings that do not fit the vocabulary.
    """
    check_repeatable_words(
        run.trainer.validation_decoding, vocabulary, "trainer.validation_decoding"
    )
    # Initial weights and dropout take their seeds from here, so a run can be repeated.
    keras.utils.set_random_seed(run.trainer.seed)
    with replicas.scope():
        # Built even when frozen: weights that are missing must show now and not at the export, and
        # their hash is recorded.
        encoder = build_encoder(run.model.encoder)
        auxiliary_sources = len(run.trainer.source_mix.auxiliary)
        captioner = build_captioner(run.model, encoder, vocabulary.size, auxiliary_sources)
    _start_from_word_vectors(captioner.decoder, run.model.decoder, vocabulary)
    return encoder, captioner


def read_train_split(patterns: Sequence[str], run: RunConfig, encoder: Encoder) -> CaptionData:
    """Reads the train split, in which the target is oversampled as the settings say.

    Args:
      patterns: File patterns of the split's examples.
      run: Settings of the training.
      encoder: The encoder of the settings.

    Raises:
      ValueError: Examples that do not fit the model, or all of them are of auxiliary sources.
    """
    train = read_split(patterns, run, encoder, oversample=True)
    names = run.trainer.source_mix.auxiliary
    if names:
        target, *auxiliary = train.images_by_source
        if not target:
            raise ValueError(
                "`trainer.source_mix.auxiliary` must leave images of another source in the train "
                "split, the target, whose style of captions is learned. "
                f"Received: {', '.join(names)}, which are all there are."
            )
        logger.info(
            "%d images of the target; of auxiliary sources: %s",
            target,
            ", ".join(f"{count} of {name}" for name, count in zip(names, auxiliary, strict=True)),
        )
    return train


def read_split(
    patterns: Sequence[str], run: RunConfig, encoder: Encoder, *, oversample: bool = False
) -> CaptionData:
    """Reads what a training of these settings takes: pixels, or what the frozen part made of them.

    Args:
      patterns: File patterns of the split's examples.
      run: Settings of the training.
      encoder: The encoder of the settings.
      oversample: Whether images of the target are repeated, as `trainer.source_mix` says.

    Raises:
      ValueError: Examples that do not fit the model.
    """
    mix, length = run.trainer.source_mix, run.text.max_caption_length
    if not oversample:
        mix = dataclasses.replace(mix, target_share=0.0)
    if encoder.frozen is None:
        size = encoder.input_size
        return read_pixels(patterns, size=size, max_caption_length=length, mix=mix)
    shape = encoder.frozen_shape
    return read_features(patterns, shape=shape, max_caption_length=length, mix=mix)


def _start_from_word_vectors(
    decoder: RecurrentDecoder, config: DecoderConfig, vocabulary: Vocabulary
) -> None:
    if config.word_vectors is None:
        return
    ids = {word: number for number, word in enumerate(vocabulary.tokens)}
    vectors = read_word_vectors(config.word_vectors, ids, config.embedding_dim)
    logger.info("word vectors of %d of %d words: %s", len(vectors), len(ids), config.word_vectors)
    decoder.start_from({ids[word]: vector for word, vector in vectors.items()})
