"""Says which environment variable to set, to what, when a setting is missing or does not fit.

What a setting takes is read off its field: its type and bounds, or its title where these do not say enough.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsError

from shared.errors import EnvironmentFault

_SCALARS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    str: "text",
    SecretStr: "text",
}


def settings_fault(kind: type[BaseSettings], error: ValidationError | SettingsError) -> EnvironmentFault:
    """Return the error that names, in one line, each variable that is missing or wrong and what to set it to.

    Parameters
    ----------
    kind : type of BaseSettings
        What was read.
    error : ValidationError or SettingsError
        What pydantic raised. The values that it quotes are left out: one may be a password.

    Returns
    -------
    EnvironmentFault
        Its `setting` is the first of the variables.
    """
    if isinstance(error, SettingsError):
        faults = [_unparsed(kind, error)]
    else:
        details = error.errors(include_input=False, include_url=False)
        faults = list(dict.fromkeys(_fault(kind, detail) for detail in details))
    words = "; ".join(text for _, text in faults)
    words = words[0].upper() + words[1:]
    return EnvironmentFault(f"{words}; docs/settings.md lists all settings", setting=faults[0][0])


def variable_of(kind: type[BaseSettings], field: str) -> str:
    """Return the environment variable of a field."""
    return f"{kind.model_config['env_prefix']}{field}".upper()


def accepted_values(field: FieldInfo) -> str:
    """Return what a field takes, with an example: ``a whole number from 0 to 65535, such as 8080``."""
    takes = field.title or _kind(field.annotation, field.metadata)
    example = next(iter(field.examples or []), None)
    if example is None and isinstance(field.default, str | int | float | list) and field.default:
        example = field.default
    if example is None or isinstance(example, bool) or get_origin(_without_none(field.annotation)) is Literal:
        return takes
    return f"{takes}, such as {example if isinstance(example, str | Path) else json.dumps(example)}"


def _fault(kind: type[BaseSettings], fault: ErrorDetails) -> tuple[str, str]:
    """Return the variable that is at fault, where it is a single one, and what to do."""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    words = " ".join(fault["msg"].removeprefix("Value error, ").split())
    variable = variable_of(kind, name)
    if name not in kind.model_fields:
        # Several settings do not go together, or the name is not one of ours.
        return (variable, f"{variable}: {words}") if name else ("", words)
    if fault["type"] == "value_error":
        # Our own validators say what they take.
        return variable, f"{variable}: {words}"
    return variable, f"set {variable} to {accepted_values(kind.model_fields[name])}"


def _unparsed(kind: type[BaseSettings], error: SettingsError) -> tuple[str, str]:
    # Only pydantic's sentence names the field; the error's cause would quote the value.
    named = re.search(r'"(\w+)"', str(error))
    if named is None or named[1] not in kind.model_fields:
        return "", f"{error}; lists and tables are written as JSON"
    variable = variable_of(kind, named[1])
    return variable, f"set {variable} to {accepted_values(kind.model_fields[named[1]])}"


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        return " or ".join(_kind(each, metadata) for each in arguments if each is not NoneType)
    if origin is Literal:
        return _one_of([str(value) for value in arguments])
    if origin is list:
        return f"a JSON list, each {_kind(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}, each {_kind(arguments[0])}"
    if origin is dict:
        return "a JSON object"
    metadata = [rule for each in metadata for rule in getattr(each, "metadata", [each])]
    patterns = [f"that matches {rule.pattern}" for rule in metadata if getattr(rule, "pattern", None)]
    return " ".join([_SCALARS.get(annotation, "a value that fits"), *patterns, *_bounds(metadata)])


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    low = next((rule.ge for rule in metadata if isinstance(rule, Ge)), None)
    high = next((rule.le for rule in metadata if isinstance(rule, Le)), None)
    if low is not None and high is not None:
        yield f"from {low} to {high}"
    elif low is not None:
        yield f"of at least {low}"
    elif high is not None:
        yield f"of at most {high}"
    for rule in metadata:
        if isinstance(rule, Gt):
            yield f"above {rule.gt}"
        elif isinstance(rule, Lt):
            yield f"below {rule.lt}"


def _one_of(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        kinds = [each for each in get_args(annotation) if each is not NoneType]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation
