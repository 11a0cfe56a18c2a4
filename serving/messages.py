"""TF Serving's messages, as far as a client needs them, without TensorFlow.

`tensorflow-serving-api` depends on TensorFlow. These messages are the same on the wire (field
numbers and types of tensorflow/core/framework and tensorflow_serving/apis, /config), under a
package of their own, so that both can be imported side by side. They are built at run time because
generated code binds to one major version of protobuf.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, message_factory

PACKAGE = "captioner.serving"

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
}

# Message: fields as "[repeated|map|oneof <name>] <type> <name> = <number>". Enumerations are int32
# on the wire; a map's key is a string.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "Dim": ("int64 size = 1", "string name = 2"),
    "TensorShape": ("repeated Dim dim = 2", "bool unknown_rank = 3"),
    "Tensor": (
        "int32 dtype = 1",
        "TensorShape tensor_shape = 2",
        "bytes tensor_content = 4",
        "repeated float float_val = 5",
        "repeated double double_val = 6",
        "repeated int32 int_val = 7",
        "repeated bytes string_val = 8",
        "repeated int64 int64_val = 10",
        "repeated bool bool_val = 11",
    ),
    "Int64Value": ("int64 value = 1",),
    "BoolValue": ("bool value = 1",),
    "ModelSpec": (
        "string name = 1",
        "oneof version_choice Int64Value version = 2",
        "oneof version_choice string version_label = 4",
        "string signature_name = 3",
    ),
    "PredictRequest": (
        "ModelSpec model_spec = 1",
        "map Tensor inputs = 2",
        "repeated string output_filter = 3",
    ),
    "PredictResponse": ("map Tensor outputs = 1", "ModelSpec model_spec = 2"),
    "Status": ("int32 error_code = 1", "string error_message = 2"),
    "ModelVersionStatus": ("int64 version = 1", "int32 state = 2", "Status status = 3"),
    "GetModelStatusRequest": ("ModelSpec model_spec = 1",),
    "GetModelStatusResponse": ("repeated ModelVersionStatus model_version_status = 1",),
    "Latest": ("uint32 num_versions = 1",),
    "All": (),
    "Specific": ("repeated int64 versions = 1",),
    # Of the answer only what it is about, which a client cannot know of a label.
    "GetModelMetadataRequest": ("ModelSpec model_spec = 1", "repeated string metadata_field = 2"),
    "GetModelMetadataResponse": ("ModelSpec model_spec = 1",),
    "ServableVersionPolicy": (
        "oneof policy_choice Latest latest = 100",
        "oneof policy_choice All all = 101",
        "oneof policy_choice Specific specific = 102",
    ),
    "ModelConfig": (
        "string name = 1",
        "string base_path = 2",
        "string model_platform = 4",
        "ServableVersionPolicy model_version_policy = 7",
        "map int64 version_labels = 8",
    ),
    "ModelConfigList": ("repeated ModelConfig config = 1",),
    "ModelServerConfig": ("oneof config ModelConfigList model_config_list = 1",),
    "ReloadConfigRequest": ("ModelServerConfig config = 1",),
    "ReloadConfigResponse": ("Status status = 1",),
    # The parameters that `serving.config.BatchingParameters` knows.
    "BatchingParameters": (
        "Int64Value max_batch_size = 1",
        "Int64Value batch_timeout_micros = 2",
        "Int64Value max_enqueued_batches = 3",
        "Int64Value num_batch_threads = 4",
        "BoolValue enable_large_batch_splitting = 8",
        "Int64Value max_execution_batch_size = 9",
    ),
    "PrometheusConfig": ("bool enable = 1", "string path = 2"),
    "MonitoringConfig": ("PrometheusConfig prometheus_config = 1",),
}


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="captioner/serving/messages.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, field)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    declaration, number = text.split(" = ")
    *kind, type_name, name = declaration.split()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind == ["repeated"]:
        field.label = _Field.LABEL_REPEATED
    elif kind == ["map"]:
        _add_map_entry(message, field, type_name)
        return
    elif kind:
        field.oneof_index = _oneof_index(message, kind[1])
    _set_type(field, type_name)


def _add_map_entry(
    message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto, value: str
) -> None:
    entry_name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _set_type(entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL), "string")
    _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), value)
    field.label = _Field.LABEL_REPEATED
    _set_type(field, f"{message.name}.{entry_name}")


def _oneof_index(message: descriptor_pb2.DescriptorProto, name: str) -> int:
    names = [oneof.name for oneof in message.oneof_decl]
    if name not in names:
        message.oneof_decl.add(name=name)
        return len(names)
    return names.index(name)


def _set_type(field: descriptor_pb2.FieldDescriptorProto, type_name: str) -> None:
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{type_name}"


_CLASSES: dict[str, Any] = message_factory.GetMessages([_file_descriptor()])

BatchingParameters = _CLASSES[f"{PACKAGE}.BatchingParameters"]
GetModelMetadataRequest = _CLASSES[f"{PACKAGE}.GetModelMetadataRequest"]
GetModelMetadataResponse = _CLASSES[f"{PACKAGE}.GetModelMetadataResponse"]
GetModelStatusRequest = _CLASSES[f"{PACKAGE}.GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES[f"{PACKAGE}.GetModelStatusResponse"]
MonitoringConfig = _CLASSES[f"{PACKAGE}.MonitoringConfig"]
ModelConfig = _CLASSES[f"{PACKAGE}.ModelConfig"]
ModelServerConfig = _CLASSES[f"{PACKAGE}.ModelServerConfig"]
PredictRequest = _CLASSES[f"{PACKAGE}.PredictRequest"]
PredictResponse = _CLASSES[f"{PACKAGE}.PredictResponse"]
ReloadConfigRequest = _CLASSES[f"{PACKAGE}.ReloadConfigRequest"]
ReloadConfigResponse = _CLASSES[f"{PACKAGE}.ReloadConfigResponse"]
Tensor = _CLASSES[f"{PACKAGE}.Tensor"]

# tensorflow/core/framework/types.proto
DT_FLOAT = 1
DT_STRING = 7
# GetModelStatusResponse's ModelVersionStatus.State
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
