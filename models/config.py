"""Typed settings of the models, their training and their decoding.

They travel as JSON in execution properties, so every value is plain data. `pipeline/configs.py`
composes them into the configuration of a whole run, and words the errors about unknown keys and bad
values.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from tfx_captioner.models.data_config import STRICT, EncoderConfig, Positive, TextConfig

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


@dataclass(frozen=True, config=STRICT)
class DecoderConfig:
    """A recurrent caption decoder.

    >>> DecoderConfig(cell="lstm", attention="additive", concepts=0.3).units
    512

    Attributes:
      cell: Recurrent cell.
      units: Width of the recurrent state.
      embedding_dim: Width of the word embeddings.
      attention: Attention over the feature grid at every word; "none" uses the features as initial
        state only.
      attention_heads: Heads of dot-product attention; must divide `units`.
      gate: Whether a gate scales the context of each word.
      layer_norm: Whether recurrent output and context are normalised before the output layers.
      concepts: Weight in the loss of predicting which words the captions of an image hold; the
        prediction is added to the logits of the next word. 0 leaves both out.
      tie_embeddings: Whether the word embeddings are also the output weights.
      word_vectors: File of word vectors, in GloVe's text form, that the word embeddings start from;
        None for random ones. TFX's cache knows its name and not its content.
      dropout: Share of inputs and outputs dropped while training.
    """

    cell: Literal["lstm", "gru"] = "gru"
    units: Positive = 512
    embedding_dim: Positive = 256
    attention: Literal["none", "additive", "dot_product"] = "dot_product"
    attention_heads: Positive = 4
    gate: bool = False
    layer_norm: bool = False
    concepts: Annotated[float, Field(ge=0.0)] = 0.0
    tie_embeddings: bool = True
    word_vectors: str | None = None
    dropout: Share = 0.5


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """One captioning model: an encoder and a decoder.

    >>> model = ModelConfig(EncoderConfig("efficientnet_lite2", "package"), DecoderConfig("lstm"))

    Attributes:
      encoder: Encoder of the images.
      decoder: Decoder of the captions.
    """

    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()


@dataclass(frozen=True, config=STRICT)
class DecodingConfig:
    """Beam search inside the graph.

    >>> DecodingConfig(beam_size=5, repeatable_words="a the of").max_length
    20

    Attributes:
      beam_size: Hypotheses kept; 1 is greedy.
      length_normalization: Exponent of the length a log-probability is divided by; 0 is none.
      min_length: Fewest words of a caption, end token not counted.
      max_length: Most words of a caption, end token not counted.
      beam_groups: Groups the beam is divided into; must divide `beam_size`. Each keeps away from
        the words that the groups before it choose at the same step, so that the hypotheses are
        less alike; 1 is plain beam search.
      diversity_penalty: Penalty on the log-probability of a word for each time that the groups
        before choose it at the same step.
      repeatable_words: Words that a caption may hold more than once, with spaces between; it holds
        every other one once at the most. None lets all be repeated, if not immediately. Where a
        word is a character (`models.text`), characters are meant.
    """

    beam_size: Positive = 3
    length_normalization: Annotated[float, Field(ge=0)] = 0.7
    min_length: Positive = 1
    max_length: Positive = 20
    beam_groups: Positive = 1
    diversity_penalty: Annotated[float, Field(ge=0)] = 0.5
    repeatable_words: str | None = None

    def __post_init__(self) -> None:
        if self.min_length > self.max_length:
            raise ValueError(
                "`min_length` must be at most `max_length`. "
                f"Received: min_length={self.min_length}, max_length={self.max_length}."
            )
        if self.beam_size % self.beam_groups:
            raise ValueError(
                "`beam_groups` must divide `beam_size`. "
                f"Received: beam_groups={self.beam_groups}, beam_size={self.beam_size}."
            )


@dataclass(frozen=True, config=STRICT)
class SourceMix:
    """How data sets are mixed in training: the target, and auxiliary ones.

    Data sets caption in styles of their own. Photographs of an auxiliary one teach what is to be
    seen; the style of its captions is learned by embeddings of the data set, which are left out
    when images are captioned. The target is oversampled beside them (domain tags and oversampling:
    Chu et al., 2017, https://arxiv.org/abs/1701.03214).

    >>> mix = SourceMix(auxiliary=("coco",), target_share=0.4)

    Attributes:
      auxiliary: Values of `image/source` whose style of captions is not wanted. All other sources
        are the target.
      target_share: Share of the captions of an epoch that are of the target, about and at least:
        its images are repeated until they have it. Without auxiliary sources nothing is repeated.
    """

    auxiliary: tuple[str, ...] = ()
    target_share: Share = 0.0


# All data sets are the target.
ONE_SOURCE = SourceMix()


@dataclass(frozen=True, config=STRICT)
class SelfCriticalConfig:
    """The second stage of a training: captions are sampled and rewarded by their CIDEr-D.

    >>> stage = SelfCriticalConfig(epochs=3, learning_rate=5e-5, cross_entropy_share=0.2)

    Attributes:
      epochs: Passes over the images of the train split; 0 leaves the stage out.
      learning_rate: Learning rate, constant.
      samples: Captions sampled per image; the reward of each is compared with the others' mean.
      cross_entropy_share: Share of teacher forcing in the loss, which keeps a small photo set from
        being learned by heart (Paulus et al., 2018, section 3.2, https://arxiv.org/abs/1705.04304).
    """

    epochs: Annotated[int, Field(ge=0)] = 0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    samples: Annotated[int, Field(ge=2)] = 5
    cross_entropy_share: Share = 0.0


@dataclass(frozen=True, config=STRICT)
class TrainerConfig:
    """Training by teacher forcing, and by reward after it.

    >>> TrainerConfig(epochs=10, validation_decoding=DecodingConfig(beam_size=1)).batch_size
    128

    Attributes:
      epochs: Most passes over the train split by teacher forcing.
      batch_size: Captions per step, about, over all replicas: a step takes whole images with all
        their captions.
      source_mix: Target and auxiliary data sets of the train split, and how they are mixed.
      learning_rate: Peak learning rate of AdamW, reached after `warmup_epochs` and followed by a
        cosine down to zero at the last of `epochs`.
      encoder_learning_rate_factor: Learning rate of a trained encoder over that of the decoder; for
        an encoder that has learned to see before, far below 1.
      warmup_epochs: Epochs of linear warm-up from zero.
      weight_decay: Decoupled weight decay of AdamW.
      gradient_clip_norm: Largest global norm of a step's gradient.
      early_stopping_patience: Epochs without a higher validation CIDEr-D before teacher forcing
        ends.
      validation_decoding: Beam search that captions the validation split, by which the best epoch
        is chosen; its `max_length` also limits the captions sampled in the second stage. What is
        served is decoded by the Exporter's settings, so that a change of those trains nothing.
      label_smoothing: Share of the target probability spread over the vocabulary.
      scheduled_sampling: Probability, at the end of `epochs`, that a word given to the decoder is
        one it samples itself instead of the caption's; rises to it linearly from 0 (Bengio et al.,
        2015, https://arxiv.org/abs/1506.03099). Takes half as much time again.
      ema_momentum: Momentum of the moving average of the weights, which is what is validated and
        exported; 0 takes the weights themselves.
      self_critical: The second stage.
      matmul_dtype: Type of the operands of the decoder's matrix products in training; everything
        else stays float32. "bfloat16" rounds them, which is faster where the processor has
        instructions for it (AVX512_BF16, AMX, tensor cores). "auto" measures both when a training
        starts, and an interrupted training keeps what it started with.
      seed: Seeds initial weights, shuffling and dropout; a CPU run is repeatable.
    """

    epochs: Positive = 20
    batch_size: Positive = 128
    source_mix: SourceMix = ONE_SOURCE
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    encoder_learning_rate_factor: Annotated[float, Field(gt=0)] = 1.0
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    gradient_clip_norm: Annotated[float, Field(gt=0)] = 5.0
    early_stopping_patience: Positive = 5
    validation_decoding: DecodingConfig = DecodingConfig()
    label_smoothing: Share = 0.1
    scheduled_sampling: Share = 0.0
    ema_momentum: Share = 0.99
    self_critical: SelfCriticalConfig = SelfCriticalConfig()
    matmul_dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    seed: int = 1


Hyperparameter = Literal[
    "trainer.learning_rate",
    "trainer.label_smoothing",
    "decoder.dropout",
    "decoder.concepts",
    "decoder.units",
]


@dataclass(frozen=True, config=STRICT)
class TunerConfig:
    """The search for hyper-parameters, before the training of each model and for it alone.

    >>> search = TunerConfig(trials=20, hyperparameters=("trainer.learning_rate",))

    Attributes:
      trials: Trainings to compare, of which the first has the values that are configured; 0 leaves
        the search out.
      epochs: Most epochs of a trial; None for those of the trainer. The self-critical stage is no
        part of a trial.
      hyperparameters: Names of the hyper-parameters that are searched: the learning rate from a
        quarter to four times of what is configured, label smoothing up to 0.2, dropout up to 0.7,
        the weight of concepts up to 0.6, and half, once or twice the units.
    """

    trials: Annotated[int, Field(ge=0)] = 0
    epochs: Positive | None = None
    hyperparameters: Annotated[tuple[Hyperparameter, ...], Field(min_length=1)] = get_args(
        Hyperparameter
    )


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """Settings of `models.trainer.run_fn`, as `custom_config["run"]` of the TFX Trainer.

    Example:

    ```python
    run = RunConfig(
        model_name="resnet_gru",
        model=ModelConfig(EncoderConfig("resnet50"), DecoderConfig("gru")),
        text=TextConfig(),
        trainer=TrainerConfig(epochs=10),
        code_fingerprint=code_fingerprint("tfx_captioner.models.trainer"),
        checkpoint_root="runs/captioner/checkpoints",
    )
    trainer = Trainer(custom_config={"run": to_plain(run)}, ...)
    ```

    Attributes:
      model_name: Name of the model, such as `cnn_lstm` or `resnet_gru`.
      model: Encoder and decoder.
      text: How captions became token ids.
      trainer: Settings of the training.
      code_fingerprint: Hash of the user code the node runs. TFX does not see code behind a dotted
        path, so this is what invalidates the cache when it is edited.
      checkpoint_root: Folder (any tf.io.gfile path) under which an interrupted training is kept,
        and found again by a later execution with the same inputs and settings.
    """

    model_name: str
    model: ModelConfig
    text: TextConfig
    trainer: TrainerConfig
    code_fingerprint: str
    checkpoint_root: str
