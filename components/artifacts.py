"""Artifact types of this project's own nodes.

Kubeflow imports a custom type by its TYPE_NAME as a Python path, so each is reachable as
`tfx_captioner.<Class>`, and PROPERTIES cannot be declared there: values travel as custom
properties.
"""

from tfx.types.artifact import Artifact

STATISTICS_ID = "statistics_id"
# Id of the Model whose captions, or whose scores, an artifact holds.
MODEL_ID = "model_id"
# Fingerprint of the ids and references of a split: scores compare only where it is equal.
SPLIT_FINGERPRINT = "split_fingerprint"

# Hash of captions, references and metrics that statistics were counted from.
SCORED_BY = "scored_by"
# Version of a model that was found where models are pushed to; 0 where none was.
PUSHED_VERSION = "pushed_version"
# SHA-256 of the model that an InfraBlessing is about.
MODEL_DIGEST = "model_digest"


class DataApproval(Artifact):
    """`approval.json`: what the DataGate looked at, and that nothing was found.

    Custom properties: `statistics_id`, the id of the ExampleStatistics that were approved. Nodes
    that must not run on unapproved data depend on it.
    """

    TYPE_NAME = "tfx_captioner.DataApproval"


class CaptionReferences(Artifact):
    """References of a split, tokenised, and the scores of what needs no model.

    Files: `references.json` (COCO annotations), `tokenized_references.npz`,
    `references_summary.json`. Custom properties: `split_fingerprint`.
    """

    TYPE_NAME = "tfx_captioner.CaptionReferences"


class GeneratedCaptions(Artifact):
    """Captions of a split by one model, or none and the reason why.

    Files: `captions.json` (COCO results), `generation.json`. Custom properties: `model_id`,
    `split_fingerprint`.
    """

    TYPE_NAME = "tfx_captioner.GeneratedCaptions"


class CaptionStatistics(Artifact):
    """Counts of one model's captions, image by image, that all scores are sums of.

    File: `image_statistics.npz`, missing where there are no captions. Custom properties:
    `model_id`, `split_fingerprint`, `scored_by`.
    """

    TYPE_NAME = "tfx_captioner.CaptionStatistics"


class EvaluationPages(Artifact):
    """Pages for people: `comparison.html`, and `report.html` in a folder for each model."""

    TYPE_NAME = "tfx_captioner.EvaluationPages"
