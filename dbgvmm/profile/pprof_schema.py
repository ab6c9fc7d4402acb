"""pprof's messages, described in Python: the protobuf library makes classes of them, and no generated file is needed.

Source: profile.proto of https://github.com/google/pprof, and its documentation of the fields.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE: Final = "perftools.profiles"
_FIELD: Final = descriptor_pb2.FieldDescriptorProto
_TYPES: Final = {
    "int64": _FIELD.TYPE_INT64, "uint64": _FIELD.TYPE_UINT64, "bool": _FIELD.TYPE_BOOL, "string": _FIELD.TYPE_STRING,
}  # fmt: skip
_MESSAGES: Final[dict[str, str]] = {
    "Profile": "1 *sample_type ValueType, 2 *sample Sample, 3 *mapping Mapping, 4 *location Location, "
    "5 *function Function, 6 *string_table string, 7 drop_frames int64, 8 keep_frames int64, 9 time_nanos int64, "
    "10 duration_nanos int64, 11 period_type ValueType, 12 period int64, 13 *comment int64, 14 default_sample_type int64",
    "ValueType": "1 type int64, 2 unit int64",
    "Sample": "1 *location_id uint64, 2 *value int64, 3 *label Label",
    "Label": "1 key int64, 2 str int64, 3 num int64, 4 num_unit int64",
    "Mapping": "1 id uint64, 2 memory_start uint64, 3 memory_limit uint64, 4 file_offset uint64, 5 filename int64, "
    "6 build_id int64, 7 has_functions bool, 8 has_filenames bool, 9 has_line_numbers bool, 10 has_inline_frames bool",
    "Location": "1 id uint64, 2 mapping_id uint64, 3 address uint64, 4 *line Line, 5 is_folded bool",
    "Line": "1 function_id uint64, 2 line int64",
    "Function": "1 id uint64, 2 name int64, 3 system_name int64, 4 filename int64, 5 start_line int64",
}
"""By message, its fields: number, name (with a star: repeated), type."""


@cache
def profile_class() -> Any:
    """The class of the message `Profile`; the others come as its fields."""
    file = descriptor_pb2.FileDescriptorProto(name="dbgvmm/profile.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            number, field, kind = text.split()
            added = message.field.add(name=field.removeprefix("*"), number=int(number))
            added.label = _FIELD.LABEL_REPEATED if field.startswith("*") else _FIELD.LABEL_OPTIONAL
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type = _FIELD.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Profile"))


__all__ = ["profile_class"]
