"""The named endpoints: which there are, each as a function, and whether an answer is as its schema says."""

import json
from functools import wraps
from inspect import signature

import gradio as gr
import jsonschema
from gradio_client.utils import python_type_to_json_schema

from rankviz.endpoints import publish

READING = ("estimate", "fit", "serving", "advise", "forecast", "export", "models", "gpus", "studies")
READING += ("verdict", "runs", "run", "status")
CHANGING = ("start_sweep", "cancel", "resume", "delete", "delete_uploads", "share", "export_runs")
FILES = ("spectrum", "resize")
ENDPOINTS = (*READING, *CHANGING, *FILES)


def functions_of(api):
    """Each answers as it does on the page, and fails where its answer is not as its published schema says."""
    with gr.Blocks() as page:
        publish(api)
    return {fn.api_name: _answering_as_published(fn.fn) for fn in page.fns.values()}


def check_answer(answer, schema):
    """jsonschema.ValidationError unless it has all fields of the schema and no others."""
    jsonschema.validate(json.loads(json.dumps(answer)), closed(schema))


def closed(schema):
    """The schema with no other fields than those that it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    return inner | {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner


def _answering_as_published(function):
    schema = python_type_to_json_schema(signature(function).return_annotation)

    @wraps(function)
    def call(*args, **kwargs):
        answer = function(*args, **kwargs)
        check_answer(answer, schema)
        return answer

    return call
