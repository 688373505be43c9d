"""Prints what OpenTelemetry's own classes read in a file of ProfilesData, as JSON."""

import json
import sys

from opentelemetry.proto.profiles.v1development.profiles_pb2 import ProfilesData

data = ProfilesData()
with open(sys.argv[1], "rb") as file:
    data.ParseFromString(file.read())
tables = data.dictionary
text = tables.string_table


def plain(value):
    return getattr(value, value.WhichOneof("value"))


def attributes(indices):
    entries = [tables.attribute_table[index] for index in indices]
    return {text[entry.key_strindex]: plain(entry.value) for entry in entries}


def frames(sample):
    for index in tables.stack_table[sample.stack_index].location_indices:
        location = tables.location_table[index]
        mapping = tables.mapping_table[location.mapping_index]
        for line in location.lines:
            function = tables.function_table[line.function_index]
            yield {
                "function": text[function.name_strindex],
                "file": text[function.filename_strindex],
                "line": line.line,
                "mapping": text[mapping.filename_strindex],
                "of_mapping": attributes(mapping.attribute_indices),
                "attributes": attributes(location.attribute_indices),
            }


def sample_of(sample):
    return {
        "values": list(sample.values),
        "attributes": attributes(sample.attribute_indices),
        "frames": list(frames(sample)),
    }


def profile_of(profile):
    return {
        "attributes": attributes(profile.attribute_indices),
        "unit": text[profile.sample_type.unit_strindex],
        "time_unix_nano": profile.time_unix_nano,
        "samples": [sample_of(sample) for sample in profile.samples],
    }


[resource_profiles] = data.resource_profiles
[scope_profiles] = resource_profiles.scope_profiles
unknown = data.SerializeToString(deterministic=True)
data.DiscardUnknownFields()
json.dump(
    {
        "has_unknown_fields": data.SerializeToString(deterministic=True) != unknown,
        "scope": scope_profiles.scope.name,
        "resource": {it.key: plain(it.value) for it in resource_profiles.resource.attributes},
        "profiles": {
            text[profile.sample_type.type_strindex]: profile_of(profile)
            for profile in scope_profiles.profiles
        },
    },
    sys.stdout,
)
