"""Presets, overrides, and what a person is told when one is wrong."""

from pathlib import Path

import pytest

from tfx_captioner.models.data_config import to_plain
from tfx_captioner.pipeline.configs import load_config, preset_names
from tfx_captioner.pipeline.errors import UserError


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid_and_names_the_two_models(preset: str) -> None:
    config = load_config(preset)
    assert list(config.models) == ["cnn_lstm", "resnet_gru"]
    assert config.models["cnn_lstm"].decoder.cell == "lstm"
    assert config.models["resnet_gru"].decoder.cell == "gru"
    assert config.evaluator.thresholds
    assert config.root == Path(f"runs/{preset}").absolute()


def test_an_override_reaches_its_key_alone() -> None:
    base, changed = load_config("sample"), load_config("sample", ["trainer.epochs=3"])
    assert changed.trainer.epochs == 3
    assert to_plain(changed) | {"trainer": None} == to_plain(base) | {"trainer": None}


def test_override_values_are_yaml() -> None:
    config = load_config(
        "sample", ["models.cnn_lstm.encoder.weights=null", "data_gate.drift={image/width: 0.5}"]
    )
    assert config.models["cnn_lstm"].encoder.weights is None
    assert config.data_gate.drift == {"image/width": 0.5}


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("trainer.epoch=3", ["trainer.epoch", "--set trainer.epoch=3", "Did you mean `epochs`"]),
        ("trainer.epochs=0", ["trainer.epochs", "greater than or equal to 1", "Received: 0"]),
        ("trainer.epochs=many", ["trainer.epochs", "integer", "'many'"]),
        ("models.cnn_lstm.decoder.cell=rnn", ["decoder.cell", "'lstm' or 'gru'", "'rnn'"]),
        ("models.cnn_lstm.encodr.name=x", ["encodr", "Allowed: encoder, decoder"]),
        ("decoding.min_length=21", ["`min_length` must be at most", "max_length=20"]),
        ("decoding.beam_groups=2", ["`beam_groups` must divide", "beam_size=3"]),
        ("tuner.trial=3", ["tuner.trial", "Allowed: trials, epochs, hyperparameters"]),
        (
            "tuner.hyperparameters=[decoder.unit]",
            ["tuner.hyperparameters.0", "'decoder.units'", "Received: 'decoder.unit'"],
        ),
        (
            "models.cnn_lstm.encoder={name: vgg16, trainable_from: block5}",
            ["models.cnn_lstm.encoder", "`trainable_from` needs `trainable: true`"],
        ),
        ("nonsense=1", ["nonsense", "Allowed:", "trainer"]),
        ("trainer.epochs", ["--set", "trainer.epochs=3"]),
        ("trainer.epochs.deep=1", ["trainer.epochs.deep"]),
    ],
)
def test_a_wrong_override_is_explained(override: str, parts: list[str]) -> None:
    overrides = ["trainer.epochs=2", override] if "deep" in override else [override]
    with pytest.raises(UserError) as caught:
        load_config("sample", overrides)
    for part in parts:
        assert part in str(caught.value)


def test_a_wrong_preset_names_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"sample.*Received: 'smple'"):
        load_config("smple")


def test_an_error_in_a_preset_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("trainer: {epochs: -1}\n")
    with pytest.raises(UserError) as caught:
        load_config(str(path))
    assert "preset mine.yaml" in str(caught.value)
    assert "`models` must be given" in str(caught.value)


@pytest.mark.parametrize("text", ["{", "- 1\n- 2\n"])
def test_a_preset_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_config(str(path))


def test_models_with_the_same_frozen_encoder_share_it() -> None:
    config = load_config(
        "flickr8k",
        ["models.cnn_lstm.encoder={name: resnet50, weights: imagenet}"],
    )
    assert list(config.featurized_encoders()) == ["resnet50"]


def test_frozen_encoders_that_differ_get_names_that_differ() -> None:
    config = load_config(
        "flickr8k",
        ["models.cnn_lstm.encoder={name: resnet50, weights: imagenet, input_size: 320}"],
    )
    assert list(config.featurized_encoders()) == ["resnet50", "resnet50_2"]


def test_encoders_trained_from_a_stage_on_are_featurized_up_to_it() -> None:
    stage = "{name: resnet50, weights: imagenet, trainable: true, trainable_from: conv5}"
    config = load_config("flickr8k", [f"models.cnn_lstm.encoder={stage}"])
    encoders = config.featurized_encoders()
    assert encoders["resnet50"].trainable_from == "conv5"


def test_trained_encoders_need_no_featurizer() -> None:
    assert load_config("sample").featurized_encoders() == {}


def test_the_language_decides_what_rules_may_ask_for() -> None:
    assert load_config().text.language == "en"
    assert load_config("flickr8k", ["text.language=zh"]).text.language == "zh"
    load_config(overrides=["evaluator.thresholds={meteor: 0.1}", "selector.metric=meteor"])


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("evaluator.thresholds={meteor: 0.1}", "`evaluator.thresholds` must not name meteor"),
        ("evaluator.change_thresholds={meteor: 0}", "`evaluator.change_thresholds` must not"),
        ("evaluator.not_significantly_worse=[meteor]", "worse` must not name meteor"),
        (
            "evaluator.slice_rules={'brightness: dark': {thresholds: {meteor: 0}}}",
            "`evaluator.slice_rules.brightness: dark.thresholds` must not name meteor",
        ),
        (
            "evaluator.slice_rules={'people: yes': {thresholds: {bleu_4: 0}}}",
            "`evaluator.slice_rules.people: yes`: the slice is told by English words",
        ),
        ("selector.metric=meteor", "`selector.metric` must not be meteor"),
        ("text.language=xx", "zh zu. Received: 'xx'."),
    ],
)
def test_what_is_english_only_is_refused_in_other_languages(override: str, part: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(overrides=["text.language=ja", override])
    assert part in " ".join(str(error.value).split())
