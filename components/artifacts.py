"""Artifact types of this project's own nodes.

Kubeflow imports a custom type by its TYPE_NAME as a Python path, so each is reachable as
`tfx_captioner.<Class>`, and PROPERTIES cannot be declared there: values travel as custom
properties.
"""

from tfx.types.artifact import Artifact

STATISTICS_ID = "statistics_id"


class DataApproval(Artifact):
    """`approval.json`: what the DataGate looked at, and that nothing was found.

    Custom properties: `statistics_id`, the id of the ExampleStatistics that were approved. Nodes
    that must not run on unapproved data depend on it.
    """

    TYPE_NAME = "tfx_captioner.DataApproval"
