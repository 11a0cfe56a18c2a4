"""Beam search inside the graph, with core TensorFlow ops only.

The search knows no model: it asks one for an initial state and for one step at a time. The same
code captions in validation, in the evaluator and in the served model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import tensorflow as tf

from tfx_captioner.metrics import scripts
from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.data_config import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from tfx_captioner.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tfx_captioner.models.decoders.recurrent import EncodedImages, RecurrentDecoder

# Special tokens that are never generated.
SUPPRESSED_IDS = (PAD_ID, START_ID, UNKNOWN_ID)


class StepModel(Protocol):
    """A model that scores the next word of each hypothesis."""

    def initial_state(self, inputs: Any, beam_size: int) -> Any:
        """Makes the state of N x `beam_size` hypotheses.

        Args:
          inputs: Inputs of the model for N images.
          beam_size: Hypotheses per image.

        Returns:
          Nest of tensors with leading dimensions [N, beam_size]. The search reorders them.
        """

    def step(self, token_ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Scores the next word of each hypothesis.

        Args:
          token_ids: Last word of each hypothesis, int32 [N, beam_size].
          state: State from `initial_state` or from the step before.

        Returns:
          Pair of logits, float [N, beam_size, vocabulary size], and the new state.
        """


class Hypotheses(NamedTuple):
    """Finished captions of N images, best first.

    Example:

    ```python
    best = hypotheses.token_ids[:, 0]
    captions = text.detokenize(vocabulary.words(best))
    ```

    Attributes:
      token_ids: Words, end token and padding of each caption, int32 [N, beam_size, max_length + 1].
      scores: Log-probability over length ** length_normalization, float32 [N, beam_size]; the end
        token counts in both. -inf where there are fewer hypotheses than beams.
    """

    token_ids: tf.Tensor
    scores: tf.Tensor


class DecoderSteps:
    """A decoder as a `StepModel`, whose inputs are `EncodedImages`.

    Example:

    ```python
    encoded = captioner.encode(inputs)
    hypotheses = beam_search(DecoderSteps(captioner.decoder), encoded, decoding, vocabulary)
    ```

    Args:
      decoder: The caption decoder.
    """

    def __init__(self, decoder: RecurrentDecoder):
        self._decoder = decoder
        self._encoded: EncodedImages
        self._output_weights: Any

    def initial_state(self, inputs: EncodedImages, beam_size: int) -> Any:
        # All else belongs to the image, not to the hypothesis: neither tiled nor reordered.
        self._encoded = inputs
        self._output_weights = self._decoder.output_weights()
        return tuple(tf.repeat(part[:, None], beam_size, axis=1) for part in inputs.state)

    def step(self, token_ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        return self._decoder.step(token_ids, state, self._encoded, self._output_weights)


def beam_search(
    model: StepModel, inputs: Any, config: DecodingConfig, vocabulary: Vocabulary
) -> Hypotheses:
    """Searches for the most probable captions, greedily with a beam size of 1.

    Hypotheses compete by length-normalised log-probability. A finished one is frozen: it keeps its
    score and its place until better ones take it, and adds nothing. The search ends when all are
    finished. At `max_length` words only the end token may follow, so that every hypothesis is a
    complete caption and scored as such. Unknown words, immediate repetitions and captions of less
    than `min_length` words are never generated; where there are `repeatable_words`, no other word
    is generated twice. A character of a script without spaces is no whole word: it may come twice
    in a row, as in some words, but not three times. A caption that can go on with no word but has
    to is not finished, and has a score of -inf.

    With several `beam_groups` hypotheses compete within their group, one group after the other
    (Vijayakumar et al., 2016, https://arxiv.org/abs/1610.02424, with Hamming diversity). The
    penalty decides what is chosen and is no part of the scores, so that those of different groups
    compare. Two groups may still end with the same caption.

    Args:
      model: Model that scores words.
      inputs: Inputs of `model.initial_state` for N images.
      config: Beam size, length normalisation, lengths, groups, words that may be repeated.
      vocabulary: Words of the token ids.
    """
    beams = config.beam_size
    words = config.repeatable_words
    repeatable = _Repeatable(
        None if words is None else vocabulary.ids(words.split()),
        tuple(map(scripts.is_unspaced, vocabulary.tokens)),
    )
    state = model.initial_state(inputs, beams)
    batch = tf.shape(tf.nest.flatten(state)[0])[0]
    # All beams of a group are the same at first; only one of them may compete.
    first = [0.0] + [-float("inf")] * (beams // config.beam_groups - 1)
    start = _Search(
        step=tf.constant(0),
        token_ids=tf.fill([batch, beams, config.max_length + 1], PAD_ID),
        last=tf.fill([batch, beams], START_ID),
        log_probs=tf.tile(tf.constant([first * config.beam_groups]), [batch, 1]),
        lengths=tf.zeros([batch, beams], tf.int32),
        state=state,
    )

    def unfinished(*search: Any) -> tf.Tensor:
        search = _Search(*search)
        alive = (search.last != END_ID) & tf.math.is_finite(search.log_probs)
        return (search.step <= config.max_length) & tf.reduce_any(alive)

    def advance(*search: Any) -> _Search:
        return _advance(model, _Search(*search), config, repeatable)

    end = _Search(*tf.while_loop(unfinished, advance, start))
    scores = _scores(end.log_probs, end.lengths, config)
    token_ids = tf.where(tf.math.is_finite(scores)[..., None], end.token_ids, PAD_ID)
    if config.beam_groups > 1:
        # Each group is in order, the groups are not.
        scores, order = tf.math.top_k(scores, beams)
        token_ids = tf.gather(token_ids, order, batch_dims=1)
    return Hypotheses(token_ids, scores)


def check_repeatable_words(config: DecodingConfig, vocabulary: Vocabulary, key: str) -> None:
    """Refuses repeatable words of which none is known: the search would pass over them silently.

    Args:
      config: Settings of the beam search.
      vocabulary: Words of the token ids.
      key: Key of `config` in the configuration, for the message.

    Raises:
      ValueError: There are repeatable words, and none of them is in the vocabulary.
    """
    words = config.repeatable_words
    if words and not vocabulary.ids(words.split()):
        raise ValueError(
            f"`{key}.repeatable_words` must hold words of the captions, with spaces between; of "
            "these none is in the vocabulary of the train split. "
            f"Received: {words!r}."
        )


def sample(
    model: StepModel, inputs: Any, *, samples: int, max_length: int, seed: tf.Tensor
) -> tf.Tensor:
    """Samples captions from the model's distribution.

    Args:
      model: Model that scores words.
      inputs: Inputs of `model.initial_state` for N images.
      samples: Captions per image.
      max_length: Most words of a caption; a longer one is cut and has no end token.
      seed: Seed, int32 [2]; the same one samples the same captions.

    Returns:
      Words, end token and padding of each caption, int32 [N, samples, max_length + 1].
    """
    state = model.initial_state(inputs, samples)
    batch = tf.shape(tf.nest.flatten(state)[0])[0]

    def sample_words(step: tf.Tensor, token_ids: tf.Tensor, last: tf.Tensor, state: Any) -> tuple:
        logits, state = model.step(last, state)
        ids = tf.range(tf.shape(logits)[-1])
        is_suppressed = tf.reduce_any(ids[:, None] == tf.constant(SUPPRESSED_IDS), 1)
        logits = tf.where(is_suppressed, -float("inf"), tf.cast(logits, tf.float32))
        flat = tf.reshape(logits, [-1, tf.shape(logits)[-1]])
        sampled = tf.random.stateless_categorical(
            flat, 1, tf.stack([seed[0], seed[1] + step]), tf.int32
        )
        has_ended = (last == END_ID) | (last == PAD_ID)
        words = tf.where(has_ended, PAD_ID, tf.reshape(sampled, tf.shape(last)))
        column = tf.one_hot(step, max_length + 1, on_value=True, off_value=False)
        return step + 1, tf.where(column, words[..., None], token_ids), words, state

    def unfinished(step: tf.Tensor, _: tf.Tensor, last: tf.Tensor, *__: Any) -> tf.Tensor:
        return (step <= max_length) & tf.reduce_any((last != END_ID) & (last != PAD_ID))

    empty = tf.fill([batch, samples, max_length + 1], PAD_ID)
    start = (tf.constant(0), empty, tf.fill([batch, samples], START_ID), state)
    _, token_ids, _, _ = tf.while_loop(unfinished, sample_words, start)
    return token_ids


class _Repeatable(NamedTuple):
    """What may be repeated.

    Attributes:
      ids: Words that a caption may hold more than once; None for all.
      characters: Whether each word is a character of a script without spaces.
    """

    ids: tuple[int, ...] | None
    characters: tuple[bool, ...]


class _Search(NamedTuple):
    """Loop variables. `lengths` counts the end token; `last` is END for a finished hypothesis."""

    step: tf.Tensor
    token_ids: tf.Tensor
    last: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    state: Any


class _Continuations(NamedTuple):
    """C ways to go on from each hypothesis.

    Attributes:
      words: Next words, int32 [N, beam_size, C].
      log_probs: Log-probability of the hypothesis with the word, float32 [N, beam_size, C]; -inf
        where the word may not follow.
      lengths: Length of the hypothesis with any of the words, int32 [N, beam_size].
    """

    words: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor


def _scores(log_probs: tf.Tensor, lengths: tf.Tensor, config: DecodingConfig) -> tf.Tensor:
    length = tf.cast(tf.maximum(lengths, 1), tf.float32)
    return log_probs / length**config.length_normalization


def _advance(
    model: StepModel,
    search: _Search,
    config: DecodingConfig,
    repeatable: _Repeatable,
) -> _Search:
    logits, state = model.step(search.last, search.state)
    following = _continuations(tf.cast(logits, tf.float32), search, config, repeatable)
    chosen = _choose(following, search, config)

    def of_chosen(x: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.reshape(x, [tf.shape(x)[0], -1]), chosen, batch_dims=1)

    parents = chosen // tf.shape(following.words)[-1]

    def of_parents(x: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, parents, batch_dims=1)

    words = of_chosen(following.words)
    was_finished = of_parents(search.last) == END_ID
    column = tf.one_hot(search.step, config.max_length + 1, on_value=True, off_value=False)
    written = tf.where(was_finished, PAD_ID, words)[..., None]
    return _Search(
        step=search.step + 1,
        token_ids=tf.where(column, written, of_parents(search.token_ids)),
        last=words,
        log_probs=of_chosen(following.log_probs),
        lengths=of_parents(following.lengths),
        state=tf.nest.map_structure(of_parents, state),
    )


def _continuations(
    logits: tf.Tensor,
    search: _Search,
    config: DecodingConfig,
    repeatable: _Repeatable,
) -> _Continuations:
    """Finds the likeliest words after each hypothesis, and adds the end.

    The vocabulary is gone through twice, for its sum and for its likeliest words; all else works on
    those few. They are enough: at most `beam_size` of one hypothesis are chosen or penalised, and
    some of those before them may not follow.
    """
    # Beside words that may not be repeated; the end has a place of its own.
    may_not_follow = (*SUPPRESSED_IDS, END_ID)
    not_repeated = 1 if repeatable.ids is None else search.step
    number = config.beam_size + len(may_not_follow) + not_repeated
    number = tf.minimum(number, tf.shape(logits)[-1])
    total = tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    likeliest, words = tf.math.top_k(logits, number)
    finished = (search.last == END_ID)[..., None]

    forbidden = _is_among(words, tf.constant(may_not_follow))
    again = words == search.last[..., None]
    if any(repeatable.characters):
        before = tf.gather(search.token_ids, tf.maximum(search.step - 2, 0), axis=-1)
        came_twice = (search.step > 1) & (before == search.last)
        again &= ~tf.gather(tf.constant(repeatable.characters), words) | came_twice[..., None]
    forbidden |= again
    if repeatable.ids is not None:
        is_repetition = _is_among(words, search.token_ids[:, :, None])
        forbidden |= is_repetition & ~_is_among(words, tf.constant(repeatable.ids, tf.int32))
    forbidden |= finished | (search.step == config.max_length)
    word_log_probs = tf.where(forbidden, -float("inf"), likeliest - total)
    end_log_probs = logits[..., END_ID : END_ID + 1] - total
    end_log_probs = tf.where(search.step < config.min_length, -float("inf"), end_log_probs)
    # A finished hypothesis has one continuation, itself.
    end_log_probs = tf.where(finished, 0.0, end_log_probs)

    return _Continuations(
        words=tf.concat([words, tf.fill(tf.shape(end_log_probs), END_ID)], axis=-1),
        log_probs=search.log_probs[..., None] + tf.concat([word_log_probs, end_log_probs], axis=-1),
        lengths=search.lengths + tf.cast(search.last != END_ID, tf.int32),
    )


def _is_among(words: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Tells for each word, [..., C], whether it is in [M], or in what broadcasts to [..., C, M]."""
    return tf.reduce_any(words[..., None] == others, axis=-1)


def _choose(following: _Continuations, search: _Search, config: DecodingConfig) -> tf.Tensor:
    """Chooses the best continuations: positions in [beam_size * C], int32 [N, beam_size]."""
    size = config.beam_size // config.beam_groups
    width = tf.shape(following.words)[-1]
    goes_on = tf.cast(search.last != END_ID, tf.float32)[..., None]
    flat_words = tf.reshape(following.words, [-1, config.beam_size * width])
    chosen: list[tf.Tensor] = []
    chosen_words: list[tf.Tensor] = []
    for first in range(0, config.beam_size, size):
        own = slice(first, first + size)
        log_probs = following.log_probs[:, own]
        if chosen_words:
            earlier = tf.concat(chosen_words, 1)[:, None, None]
            same = following.words[:, own, :, None] == earlier
            times = tf.reduce_sum(tf.cast(same, tf.float32), axis=-1)
            log_probs -= config.diversity_penalty * times * goes_on[:, own]
        scores = _scores(log_probs, following.lengths[:, own, None], config)
        _, best = tf.math.top_k(tf.reshape(scores, [-1, size * width]), size)
        chosen.append(best + first * width)
        # A finished hypothesis adds nothing, and takes no word from the others.
        ended = tf.gather(search.last, chosen[-1] // width, batch_dims=1) == END_ID
        words = tf.gather(flat_words, chosen[-1], batch_dims=1)
        chosen_words.append(tf.where(ended, PAD_ID, words))
    return tf.concat(chosen, axis=1)
