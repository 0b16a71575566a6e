"""The JSON Schema, against the examples of the pages and the descriptors of the vectors."""

import copy
import re
from functools import cache

import pytest
from extent import ordinary
from jsonschema import Draft202012Validator
from spec_files import V1, descriptor_of, examples, files, schema

LOOKAROUND = re.compile(r"\(\?[=!<]")


SCHEMA, OCI = schema("descriptor"), schema("oci")
EXAMPLES = examples()
VALID, INVALID = files("valid"), files("invalid")

BEYOND_A_SCHEMA = {
    "descriptor_field_scale_integer": "1 and 1.0 are one number",
    "descriptor_field_alpha_integer": "1 and 1.0 are one number",
    "descriptor_field_shape_float": "1 and 1.0 are one number",
    "descriptor_field_rank_float": "1 and 1.0 are one number",
    "descriptor_field_bits_float": "1 and 1.0 are one number",
    "descriptor_field_file_size_float": "1 and 1.0 are one number",
    "descriptor_field_files_too_large": "sums",
    "descriptor_field_seeded_factor_scale_of_integer": "1 and 1.0 are one number",
    "descriptor_id_seeded_factor_torch": "which coding goes with rng.id",
    "descriptor_id_seeded_factor_unknown_table": "whether rng.tables has the id",
    "descriptor_id_distribution": "whether rng.tables has the id",
    "descriptor_id_constructor_of_philox": "which distribution goes with rng.id",
    "descriptor_id_torch_normal16": "which distribution goes with rng.id",
}

LARGE = {"most_values", "most_values_and_an_empty_array", "ten_thousand_parameters", "most_arguments"}


@cache
def validator(kind):
    return Draft202012Validator(OCI if kind == "oci" else {**SCHEMA, "$ref": f"#/$defs/{kind}"})


def of_form(kinds):
    faults = {name: sidecar for name, (_, sidecar) in INVALID.items() if sidecar["section"] == "descriptor"}
    return [name for name, sidecar in faults.items() if sidecar["kind"] in kinds]


@pytest.mark.parametrize("schema", [SCHEMA, OCI], ids=["descriptor", "oci"])
def test_the_schema_is_one(schema):
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", ["descriptor", "oci"])
def test_patterns_suit_engines_without_lookaround(name):
    text = (V1 / f"{name}.schema.json").read_text("utf-8")
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', text)
    assert len(patterns) > 1
    assert [pattern for pattern in patterns if LOOKAROUND.search(pattern)] == []


@pytest.mark.parametrize("kind", ["descriptor", "architecture", "recipe", "oci"])
def test_there_are_examples(kind):
    assert any(found == kind for _, found, _ in EXAMPLES)


@pytest.mark.parametrize(("kind", "value"), [pytest.param(kind, value, id=where) for where, kind, value in EXAMPLES])
def test_examples_follow_the_schema(kind, value):
    validator(kind).validate(value)


@pytest.mark.parametrize(("kind", "value"), [pytest.param(kind, value, id=where) for where, kind, value in EXAMPLES])
def test_broken_examples_do_not(kind, value):
    assert not validator(kind).is_valid({**value, "surprise": 1})
    for field in value:
        assert not validator(kind).is_valid({key: item for key, item in value.items() if key != field})


@pytest.mark.parametrize("name", ordinary(VALID, LARGE))
def test_valid_descriptors_follow_the_schema(name):
    validator("descriptor").validate(descriptor_of(VALID[name][0]))


@pytest.mark.parametrize("name", of_form({"field", "id", "version", "family", "value"}))
def test_faults_of_form_are_refused(name):
    assert validator("descriptor").is_valid(descriptor_of(INVALID[name][0])) == (name in BEYOND_A_SCHEMA)


def test_ignored_fields_stand_only_where_the_page_allows_them():
    descriptor = descriptor_of(VALID["ignored_fields"][0])
    elsewhere = copy.deepcopy(descriptor)
    elsewhere["architecture"]["config"]["x-note"] = 1
    assert validator("descriptor").is_valid(descriptor)
    assert not validator("descriptor").is_valid(elsewhere)
