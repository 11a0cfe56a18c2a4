"""Beam search inside the graph, with core TensorFlow ops only.

The search knows no model: it asks one for an initial state and for one step at a time. The same
code captions in validation, in the evaluator and in the served model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import tensorflow as tf

from models.config import DecodingConfig
from models.data_config import END_ID, PAD_ID, START_ID, UNKNOWN_ID

if TYPE_CHECKING:
    from models.decoders.recurrent import Memory, RecurrentDecoder

# Tokens that are never generated.
NEVER = (PAD_ID, START_ID, UNKNOWN_ID)


class StepModel(Protocol):
    """What beam search needs of a model."""

    def initial_state(self, inputs: Any, beam_size: int) -> Any:
        """State of N x `beam_size` hypotheses.

        Returns:
          Nest of tensors with leading dimensions [N, beam_size]. The search reorders them.
        """

    def step(self, token_ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Scores the next word of each hypothesis.

        Args:
          token_ids: int32 [N, beam_size], the last words.
          state: As `initial_state` gave it, or the last step.

        Returns:
          Pair of logits, float [N, beam_size, vocabulary size], and the new state.
        """


class Hypotheses(NamedTuple):
    """Finished captions of N images, best first.

    Attributes:
      token_ids: int32 [N, beam_size, max_length + 1]: words, end token, padding.
      scores: float32 [N, beam_size], log-probability over length ** length_normalization; the end
        token counts in both. -inf where there are fewer hypotheses than beams.
    """

    token_ids: tf.Tensor
    scores: tf.Tensor


class DecoderSteps:
    """A decoder as a `StepModel`; its inputs are what `Captioner.remember` gives."""

    def __init__(self, decoder: RecurrentDecoder):
        self._decoder = decoder
        self._grid: tuple[Any, ...] = ()

    def initial_state(self, inputs: Memory, beam_size: int) -> Any:
        # The grid is of the image, not of the hypothesis: neither tiled nor reordered.
        self._grid = inputs.grid
        return tuple(tf.repeat(part[:, None], beam_size, axis=1) for part in inputs.state)

    def step(self, token_ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        return self._decoder.step(token_ids, state, self._grid)


def beam_search(model: StepModel, inputs: Any, config: DecodingConfig) -> Hypotheses:
    """The most probable captions, greedily with a beam size of 1.

    Hypotheses compete by length-normalised log-probability. A finished one is frozen: it keeps its
    score and its place until better ones take it, and adds nothing. The search ends when all are
    finished. At `max_length` words only the end token may follow, so that every hypothesis is a
    complete caption and scored as such. Unknown words, immediate repetitions and empty captions
    are never generated.

    Args:
      model: Scores words.
      inputs: Whatever `model.initial_state` takes, for N images.
      config: Beam size, length normalisation, maximum length.
    """
    beams = config.beam_size
    state = model.initial_state(inputs, beams)
    batch = tf.shape(tf.nest.flatten(state)[0])[0]
    start = _Search(
        step=tf.constant(0),
        token_ids=tf.fill([batch, beams, config.max_length + 1], PAD_ID),
        last=tf.fill([batch, beams], START_ID),
        # All beams are the same at first; only one of them may compete.
        log_probs=tf.tile(tf.constant([[0.0] + [-float("inf")] * (beams - 1)]), [batch, 1]),
        lengths=tf.zeros([batch, beams], tf.int32),
        state=state,
    )

    def unfinished(*search: Any) -> tf.Tensor:
        search = _Search(*search)
        alive = (search.last != END_ID) & tf.math.is_finite(search.log_probs)
        return (search.step <= config.max_length) & tf.reduce_any(alive)

    def advance(*search: Any) -> _Search:
        return _advance(model, _Search(*search), config)

    end = _Search(*tf.while_loop(unfinished, advance, start))
    scores = _scores(end.log_probs, end.lengths, config)
    return Hypotheses(tf.where(tf.math.is_finite(scores)[..., None], end.token_ids, PAD_ID), scores)


def sample(
    model: StepModel, inputs: Any, *, samples: int, max_length: int, seed: tf.Tensor
) -> tf.Tensor:
    """Captions drawn from the model's distribution.

    Args:
      model: Scores words.
      inputs: Whatever `model.initial_state` takes, for N images.
      samples: Captions per image.
      max_length: Words at the most; what is longer is cut and has no end token.
      seed: int32 [2]; the same seed draws the same captions.

    Returns:
      int32 [N, samples, max_length + 1]: words, end token, padding.
    """
    state = model.initial_state(inputs, samples)
    batch = tf.shape(tf.nest.flatten(state)[0])[0]

    def draw(step: tf.Tensor, token_ids: tf.Tensor, last: tf.Tensor, state: Any) -> tuple:
        logits, state = model.step(last, state)
        never = tf.reduce_any(tf.range(tf.shape(logits)[-1])[:, None] == tf.constant(NEVER), 1)
        logits = tf.where(never, -float("inf"), tf.cast(logits, tf.float32))
        flat = tf.reshape(logits, [-1, tf.shape(logits)[-1]])
        drawn = tf.random.stateless_categorical(
            flat, 1, tf.stack([seed[0], seed[1] + step]), tf.int32
        )
        over = (last == END_ID) | (last == PAD_ID)
        words = tf.where(over, PAD_ID, tf.reshape(drawn, tf.shape(last)))
        column = tf.one_hot(step, max_length + 1, on_value=True, off_value=False)
        return step + 1, tf.where(column, words[..., None], token_ids), words, state

    def unfinished(step: tf.Tensor, _: tf.Tensor, last: tf.Tensor, *__: Any) -> tf.Tensor:
        return (step <= max_length) & tf.reduce_any((last != END_ID) & (last != PAD_ID))

    empty = tf.fill([batch, samples, max_length + 1], PAD_ID)
    start = (tf.constant(0), empty, tf.fill([batch, samples], START_ID), state)
    _, token_ids, _, _ = tf.while_loop(unfinished, draw, start)
    return token_ids


class _Search(NamedTuple):
    """Loop variables. `lengths` counts the end token; `last` is END for a finished hypothesis."""

    step: tf.Tensor
    token_ids: tf.Tensor
    last: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    state: Any


def _scores(log_probs: tf.Tensor, lengths: tf.Tensor, config: DecodingConfig) -> tf.Tensor:
    length = tf.cast(tf.maximum(lengths, 1), tf.float32)
    return log_probs / length**config.length_normalization


def _advance(model: StepModel, search: _Search, config: DecodingConfig) -> _Search:
    logits, state = model.step(search.last, search.state)
    word_log_probs = _allowed(tf.nn.log_softmax(tf.cast(logits, tf.float32)), search, config)

    vocabulary_size = tf.shape(word_log_probs)[-1]
    finished = search.last == END_ID
    log_probs = search.log_probs[..., None] + word_log_probs
    lengths = search.lengths + tf.cast(~finished, tf.int32)
    candidates = _scores(log_probs, lengths[..., None], config)

    rows = [tf.shape(candidates)[0], config.beam_size * vocabulary_size]
    _, chosen = tf.math.top_k(tf.reshape(candidates, rows), k=config.beam_size)
    parents, words = chosen // vocabulary_size, chosen % vocabulary_size

    def of_parents(x: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, parents, batch_dims=1)

    was_finished = of_parents(finished)
    column = tf.one_hot(search.step, config.max_length + 1, on_value=True, off_value=False)
    written = tf.where(was_finished, PAD_ID, words)[..., None]
    return _Search(
        step=search.step + 1,
        token_ids=tf.where(column, written, of_parents(search.token_ids)),
        last=words,
        log_probs=tf.gather(tf.reshape(log_probs, rows), chosen, batch_dims=1),
        lengths=of_parents(lengths),
        state=tf.nest.map_structure(of_parents, state),
    )


def _allowed(log_probs: tf.Tensor, search: _Search, config: DecodingConfig) -> tf.Tensor:
    """Log-probabilities with -inf at every word that may not follow."""
    vocabulary_size = tf.shape(log_probs)[-1]
    ids = tf.range(vocabulary_size)
    forbidden = tf.reduce_any(ids[:, None] == tf.constant(NEVER), axis=1)
    forbidden |= (ids == END_ID) & (search.step == 0)
    forbidden |= (ids != END_ID) & (search.step == config.max_length)
    forbidden |= ids == search.last[..., None]
    log_probs = tf.where(forbidden, -float("inf"), log_probs)
    # A finished hypothesis has one continuation, itself.
    itself = tf.where(ids == END_ID, 0.0, -float("inf"))
    return tf.where((search.last == END_ID)[..., None], itself, log_probs)
