"""What the command line's options mean: options made from declared fields, and text made into values.

Every fault is one line that names the option.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel, ByteSize, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from shared.settings.stage import StageSettings

if TYPE_CHECKING:
    from nircam_darks.operations.find_exposures import FileSelection

#: Reference types that the pipeline's steps read, as CRDS calls them.
REFTYPES = ("mask", "saturation", "superbias", "refpix", "linearity", "gain", "readnoise")

#: The parameter through which a command gets the values of its field options.
_VALUES = "values"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text and tables.")]
ResultsFolder = Annotated[
    Path, typer.Option("--out", help="Folder for the results; created if it does not exist.")
]


@dataclass(frozen=True)
class FieldOption:
    """A command-line option whose name, help, type, default and lower bound are those of a declared field.

    Attributes
    ----------
    field : str
        Name of the field in a pydantic model, or in a dataclass whose annotations carry a pydantic `Field`.
    panel : str
        Heading of `--help` under which the option stands.
    flags : tuple of str
        The option's names where they are not ``--field-name``; the first one appears in errors.
    metavar : str or None
        What stands for the value in `--help`.
    default : Any
        Value where the option is not given and the field has no default.
    parser : callable or None
        From the text of one value to the value, where the field's type does not say how.
    shown : callable or None
        From the default to its text in `--help`, which `parser` must understand.
    """

    field: str
    panel: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    default: Any = None
    parser: Callable[[str], Any] | None = None
    shown: Callable[[Any], str] | None = None

    @property
    def flag(self) -> str:
        """The name of the option in errors."""
        return self.flags[0] if self.flags else "--" + self.field.replace("_", "-")

    def parameter(self, declared: FieldInfo) -> inspect.Parameter:
        """Return the parameter that typer makes the option from."""
        kind, choices = _scalar(declared.annotation)
        repeated = get_origin(kind) in (list, dict)
        default = self.default
        if not declared.is_required():
            default = declared.get_default(call_default_factory=True)
        if repeated:
            kind, default = list[str] | None, None
        elif self.shown is not None:
            kind, default = str, self.shown(default)
        option = typer.Option(
            *(self.flags or (self.flag,)),
            help=(declared.description or "") + ("; may be repeated." if repeated else "."),
            metavar=self.metavar or (f"[{'|'.join(choices)}]" if choices else None),
            min=None if self.parser else _lower_bound(declared),
            parser=self.parser,
            autocompletion=(lambda: list(choices)) if choices else None,
            rich_help_panel=self.panel,
        )
        return inspect.Parameter(
            self.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )

    def value(self, given: Any, declared: FieldInfo) -> Any:
        """Return the field's value from what typer read."""
        kind = get_origin(_scalar(declared.annotation)[0])
        return kind(given or ()) if kind in (list, dict) else given


def field_options(
    declaring: type[Any], options: Sequence[FieldOption]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field, in place of its parameter ``values``.

    Parameters
    ----------
    declaring : type
        The pydantic model or dataclass that declares the fields.
    options : sequence of FieldOption

    Returns
    -------
    callable
        A decorator. The command that it decorates gets ``values``, a dictionary from field to value.

    Examples
    --------
    >>> @field_options(StageSettings, [FieldOption("author", panel="Reference file")])
    ... def build(files: list[Path], values: dict[str, Any]) -> None: ...
    >>> list(inspect.signature(build).parameters)
    ['files', 'author']
    """
    declared = declared_fields(declaring)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_values(**given: Any) -> None:
            values = {
                option.field: option.value(given.pop(option.field), declared[option.field])
                for option in options
            }
            command(**given, **{_VALUES: values})

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name == _VALUES:
                parameters += [option.parameter(declared[option.field]) for option in options]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        # typer reads both.
        with_values.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_values.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_values

    return decorate


def declared_fields(declaring: type[Any]) -> dict[str, FieldInfo]:
    """Return the fields of a pydantic model, or of a dataclass with annotated fields, by name."""
    if issubclass(declaring, BaseModel):
        return declaring.model_fields
    hints = get_type_hints(declaring, include_extras=True)
    return {
        name: FieldInfo.from_annotated_attribute(hints[name], getattr(declaring, name, ...)) for name in hints
    }


def _scalar(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the type that an option can have, and its choices where the field allows only some texts."""
    literal = next(
        (part for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal), None
    )
    if literal is None:
        return annotation, ()
    return (str if literal is annotation else str | None), get_args(literal)


def _lower_bound(declared: FieldInfo) -> int | None:
    return next((bound.ge for bound in declared.metadata if hasattr(bound, "ge")), None)


class UsageFault(typer.BadParameter):
    """Wrong usage: ends the command with exit code 2. Parsers of options raise it too."""

    def format_message(self) -> str:
        """Return the message, which typer precedes with the option where it knows which."""
        return self.message if self.param is None else super().format_message()


def usage(message: str) -> UsageFault:
    """Return the error that ends the command with exit code 2."""
    return UsageFault(message)


def stage_settings(options: Sequence[FieldOption] = (), **values: Any) -> StageSettings:
    """Return the settings; the error about a value that does not fit names its option."""
    try:
        return StageSettings(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        setting = str(fault["loc"][0])
        flags = {option.field: option.flag for option in options}
        flag = flags.get(setting, "--" + setting.replace("_", "-"))
        message = fault["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(message, param_hint=f"'{flag}'") from None


def select_files(paths: list[Path], settings: StageSettings | None = None) -> "FileSelection":
    """Return the dark exposures among files and in folders; a usage error if there is none."""
    from nircam_darks.operations.find_exposures import find_exposures

    exposures = find_exposures(paths, settings)
    if paths and not exposures.candidates:
        passed_over = f"; passed over {exposures.passed_over}" if exposures.passed_over else ""
        raise usage(f"no NIRCam darks in {', '.join(map(str, paths))}{passed_over}")
    return exposures


def earlier_reference(text: str) -> str:
    """Return the address of one ``--compare-with``: the absolute path of a local file, or the URL itself."""
    if "://" in text:
        return text
    if not Path(text).is_file():
        raise usage(f"{text}: no such file")
    return str(Path(text).absolute())


def override(text: str) -> tuple[str, Path]:
    """Return reference type and file of ``REFTYPE=PATH``."""
    reftype, _, path = text.partition("=")
    if reftype not in REFTYPES:
        raise usage(f"{text}: {reftype!r} is none of {', '.join(REFTYPES)}")
    if not Path(path).is_file():
        raise usage(f"{text}: no such file: {path}")
    return reftype, Path(path).absolute()


def step_parameter(text: str) -> tuple[str, str]:
    """Return name and value of ``STEP.PARAMETER=VALUE``; whether jwst has it is checked later."""
    name, equals, value = text.partition("=")
    if not equals or not all(name.partition(".")):
        raise usage(f"{text}: give STEP.PARAMETER=VALUE, such as jump.expand_large_events=true")
    return name, value


def size_in_bytes(text: str) -> int:
    """Return the bytes of ``2GiB``."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise usage(f"{text}: give bytes or a size such as 1500MiB or 2GiB") from None


def binary_size(size: int) -> str:
    """Return ``2GiB`` for 2147483648."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return str(size)


def pixel_place(text: str) -> tuple[int, int]:
    """Return x and y of ``X,Y``."""
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError:
        raise usage(f"{text}: give X,Y, such as 320,17") from None
    return x, y
