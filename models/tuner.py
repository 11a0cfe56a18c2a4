"""`tuner_fn` of the TFX Tuner: trainings with other hyper-parameters, judged by their captions."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from tfx.v1.components import TunerFnResult

from tfx_captioner.models.checkpoints import training_key
from tfx_captioner.models.config import RunConfig, SelfCriticalConfig, TunerConfig
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import parse
from tfx_captioner.models.distribution import Replicas
from tfx_captioner.models.encoders import build_encoder
from tfx_captioner.models.hyperparameters import with_hyperparameters
from tfx_captioner.models.progress import NonFiniteLossError
from tfx_captioner.models.trainer import initial_model, read_split, read_train_split
from tfx_captioner.models.training import CaptionerTraining
from tfx_captioner.models.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

logger = logging.getLogger("captioner.models")

_OBJECTIVE = "val_cider_d"


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Prepares the search for the hyper-parameters of one captioning model.

    Args:
      fn_args: Arguments as TFX gives them; examples as for `models.trainer.run_fn`.
        `custom_config["run"]` is a `RunConfig` and `custom_config["tuner"]` a `TunerConfig`, as
        plain data.

    Returns:
      The search, and the data that each of its trials takes.

    Raises:
      ValueError: Examples that do not fit the model.
    """
    run = parse(RunConfig, fn_args.custom_config["run"])
    settings = parse(TunerConfig, fn_args.custom_config["tuner"])
    encoder = build_encoder(run.model.encoder)
    key = training_key(
        fn_args.custom_config,
        [*fn_args.train_files, *fn_args.eval_files, fn_args.transform_graph_path],
    )
    tuner = CaptionerTuner(
        run,
        settings,
        load_vocabulary(fn_args.transform_graph_path),
        folder=run.checkpoint_root,
        name=key,
        log_dir=fn_args.working_dir,
    )
    return TunerFnResult(
        tuner=tuner,
        fit_kwargs={
            "train": read_train_split(fn_args.train_files, run, encoder),
            "val": read_split(fn_args.eval_files, run, encoder),
        },
    )


def search_space(run: RunConfig, settings: TunerConfig) -> keras_tuner.HyperParameters:
    """Makes the search space: for each hyper-parameter a range around the value of the run.

    Args:
      run: Settings whose values are the defaults.
      settings: Settings of the search, which name the hyper-parameters.
    """
    space = keras_tuner.HyperParameters()
    for name in settings.hyperparameters:
        section, field = name.split(".")
        part = run.trainer if section == "trainer" else run.model.decoder
        _RANGES[field](space, name, getattr(part, field), run)
    return space


def _learning_rate(
    space: keras_tuner.HyperParameters, name: str, default: float, run: RunConfig
) -> None:
    space.Float(name, default / 4, default * 4, sampling="log", default=default)


def _up_to(
    most: float,
) -> Callable[[keras_tuner.HyperParameters, str, float, RunConfig], None]:
    def add(space: keras_tuner.HyperParameters, name: str, default: float, run: RunConfig) -> None:
        space.Float(name, 0.0, max(most, default), default=default)

    return add


def _units(space: keras_tuner.HyperParameters, name: str, default: int, run: RunConfig) -> None:
    # The heads of dot-product attention must divide them.
    heads = run.model.decoder.attention_heads
    halved = [default // 2] if default % (2 * heads) == 0 else []
    space.Choice(name, [*halved, default, default * 2], default=default)


# By field name, which is unique among those that are searched.
_RANGES: Mapping[str, Callable[[keras_tuner.HyperParameters, str, Any, RunConfig], None]] = {
    "learning_rate": _learning_rate,
    "label_smoothing": _up_to(0.2),
    "dropout": _up_to(0.7),
    "concepts": _up_to(0.6),
    "units": _units,
}


class DefaultsThenRandomOracle(keras_tuner.oracles.RandomSearchOracle):
    """Tries the defaults first, so that a search never ends below them; then random values.

    Random search (Bergstra and Bengio, 2012) needs no trials to learn from, and a search that was
    interrupted goes on with the values it would have drawn.

    Example:

    ```python
    oracle = DefaultsThenRandomOracle(
        objective=keras_tuner.Objective("val_cider_d", "max"),
        max_trials=20,
        hyperparameters=search_space(run, settings),
        allow_new_entries=False,
    )
    ```
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if self.trials:
            return super().populate_space(trial_id)
        values = {dimension.name: dimension.default for dimension in self.hyperparameters.space}
        return {"status": TrialStatus.RUNNING, "values": values}


class CaptionerTuner(base_tuner.BaseTuner):
    """Trains a captioner per trial by teacher forcing; the highest validation CIDEr-D wins.

    Trials run one after the other, on one device. An interrupted search, started again in the same
    place, goes on in the middle of the training it was in.

    Example:

    ```python
    tuner = CaptionerTuner(
        run,
        TunerConfig(trials=20),
        vocabulary,
        folder="checkpoints",
        name="search",
        log_dir="logs",
    )
    tuner.search(train=train, val=val)
    [best] = tuner.get_best_hyperparameters()
    run = with_hyperparameters(run, best.get_config())
    ```

    Args:
      run: Settings of the training.
      settings: Settings of the search.
      vocabulary: Words of the captions.
      folder: Folder in which an interrupted search is kept; any path of tf.io.gfile.
      name: Name of this search within `folder`.
      log_dir: Folder for event files and histories of the trials.
    """

    def __init__(
        self,
        run: RunConfig,
        settings: TunerConfig,
        vocabulary: Vocabulary,
        *,
        folder: str,
        name: str,
        log_dir: str,
    ):
        self._run = run
        self._settings = settings
        self._vocabulary = vocabulary
        self._log_dir = log_dir
        oracle = DefaultsThenRandomOracle(
            objective=keras_tuner.Objective(_OBJECTIVE, "max"),
            max_trials=settings.trials,
            hyperparameters=search_space(run, settings),
            allow_new_entries=False,
            # KerasTuner takes 0 for no seed.
            seed=run.trainer.seed or -1,
        )
        oracle.verbose = 0
        super().__init__(oracle=oracle, directory=folder, project_name=name)

    def run_trial(self, trial: Trial, train: CaptionData, val: CaptionData) -> dict[str, float]:
        """Trains with the hyper-parameters of a trial.

        Args:
          trial: Trial with its hyper-parameters.
          train: Captions to learn.
          val: Captions that the trial is judged by.

        Returns:
          `val_cider_d` of the best epoch.

        Raises:
          FailedTrialError: The loss became NaN or infinite, or memory was not enough; the search
            goes on.
          FatalRuntimeError: Anything else; the search ends.
        """
        values = trial.hyperparameters.values
        logger.info("trial %s of %d: %s", trial.trial_id, self._settings.trials, values)
        try:
            cider_d = self._train(trial, train, val)
        except (NonFiniteLossError, tf.errors.ResourceExhaustedError) as error:
            logger.warning("trial %s failed: %s", trial.trial_id, error)
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:
            # KerasTuner would take a note of it and go on to the next values.
            raise keras_tuner.errors.FatalRuntimeError(
                f"Trial {trial.trial_id}, with {values}: {error}"
            ) from error
        logger.info("trial %s: CIDEr-D %.1f", trial.trial_id, 100 * cider_d)
        return {_OBJECTIVE: cider_d}

    def _train(self, trial: Trial, train: CaptionData, val: CaptionData) -> float:
        # The graphs of the trial before are of no more use.
        keras.utils.clear_session()
        run = with_hyperparameters(self._run, trial.hyperparameters.get_config())
        trainer = dataclasses.replace(
            run.trainer,
            epochs=self._settings.epochs or run.trainer.epochs,
            self_critical=SelfCriticalConfig(epochs=0),
        )
        replicas = Replicas()
        encoder, captioner = initial_model(run, self._vocabulary, replicas)
        training = CaptionerTraining(
            captioner,
            trainer,
            train,
            val,
            vocabulary=self._vocabulary,
            grid=encoder.grid,
            checkpoint_dir=f"{self.get_trial_dir(trial.trial_id)}/checkpoint",
            log_dir=f"{self._log_dir}/trial_{trial.trial_id}",
            replicas=replicas,
        )
        progress = training.run()
        training.checkpoint.remove()
        return progress.best[_OBJECTIVE]

    def on_search_end(self) -> None:
        """Removes what was kept for the case of an interruption.

        Raises:
          RuntimeError: All trials failed.
        """
        trials = list(self.oracle.trials.values())
        if not any(trial.status == TrialStatus.COMPLETED for trial in trials):
            # TFX would hand on the values of one that failed.
            raise RuntimeError(
                f"All {len(trials)} trials of the search failed. The last: {trials[-1].message}"
            )
        tf.io.gfile.rmtree(self.project_dir)

    def results_summary(self, num_trials: int = 10) -> None:
        """Logs the best trials; what it overrides would make the folder of the search anew.

        Args:
          num_trials: Number of trials.
        """
        for trial in self.oracle.get_best_trials(num_trials):
            if trial.status == TrialStatus.COMPLETED:
                values = trial.hyperparameters.values
                logger.info("CIDEr-D %.1f: %s", 100 * trial.score, values)
