"""From a definition to an object: its class is imported, its options become what the constructor asks for.

Each step has its own error, which names file, section and key and says what would be allowed. Nothing is imported that
was not chosen.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

from taskfarmer.errors import UsageError
from taskfarmer.settings.definitions import KEYS, Definition, not_mine_alone

if TYPE_CHECKING:
    from inspect import Parameter, Signature


_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


class Loaded(NamedTuple):
    """A class and the keyword arguments for its constructor."""

    definition: Definition
    cls: type
    options: dict[str, Any]

    def build(self, *args: Any) -> Any:
        """An object of the class. Raises UsageError when its constructor refuses."""
        try:
            return self.cls(*args, **self.options)
        except UsageError as error:
            raise UsageError(f"{self.definition.where}: {error}") from error
        except (Exception, SystemExit) as error:
            raise self.failed("cannot be made", error) from error

    def failed(self, what: str, error: Exception | SystemExit) -> Exception | SystemExit:
        """What to raise when the class fails: a sentence for a user's, the error itself for one of ours."""
        if self.cls.__module__.startswith("taskfarmer."):
            return error
        return UsageError(
            f"{self.definition.where}: {self.cls.__name__} {what}: {type(error).__name__}: {error}{_last_line_of(error)}"
        )


def load(definition: Definition, base: type | None, positional: int, offered: Mapping[str, Any]) -> Loaded:
    """Import the class and convert the options.

    `base`: what it must be a kind of; `positional`: how many arguments its constructor gets before the options;
    `offered`: options of ours, given to constructors that know them. Raises UsageError.
    """
    cls = load_class(definition, base)
    if not definition.file:
        return Loaded(definition, cls, dict(offered))
    signature = _signature(cls)
    options = {key: value for key, value in offered.items() if key in signature.parameters}
    options.update(_Options(definition, cls, signature, positional).convert())
    return Loaded(definition, cls, options)


# The class


def load_class(definition: Definition, base: type | None) -> type:
    """Import the class that a definition names. Modules next to its file can be imported."""
    module, _, name = definition.dotted.rpartition(".")
    where = f"{definition.where} {KEYS[definition.kind]} = {definition.dotted}"
    if not module or not all(part.isidentifier() for part in definition.dotted.split(".")):
        raise UsageError(f"{where}: a class is wanted, as package.module.Class")
    if definition.file and (folder := os.path.dirname(os.path.abspath(definition.file))) not in sys.path:
        # Last, so that a file of the user's cannot stand in for a module of Python's.
        sys.path.append(folder)
    _refuse_a_strangers(module, definition, where)
    found = getattr(_import(module, where), name, None)
    if not isinstance(found, type):
        raise UsageError(f"{where}: {_no_such_class(module, name, found, base)}")
    if base is not None and not issubclass(found, base):
        raise UsageError(
            f"{where}: a class derived from taskfarmer.{definition.kind}s.{base.__name__} is wanted, this is not one"
        )
    if base is None and not (hasattr(found, "__iter__") or hasattr(found, "__getitem__")):
        raise UsageError(
            f"{where}: a class with __iter__ or __getitem__ is wanted, one command after another; this has neither"
        )
    return found


def _refuse_a_strangers(module: str, definition: Definition, where: str) -> None:
    """A file that only I may write must not have imported what a stranger put beside it."""
    from importlib.util import find_spec

    if not definition.file or not_mine_alone(definition.file):
        return  # built in, or named on purpose: then what is beside it is trusted, too
    top = module.partition(".")[0]
    found = find_spec(top) if top not in sys.modules else None
    file = found.origin if found and found.has_location else None
    beside = os.path.join(os.path.dirname(os.path.abspath(definition.file)), "")
    if file and file.startswith(beside) and (reason := not_mine_alone(file)):
        raise UsageError(f"{where}: {file} is not imported: {reason}")


def _import(module: str, where: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            if module == "taskfarmer.atlas":
                raise UsageError(
                    f"{where}: there is no taskfarmer.atlas any more: docs/coming-from.md has a definition that does the same"
                ) from error
            raise UsageError(
                f"{where}: there is no module {error.name}, neither installed, nor next to the file, nor in PYTHONPATH"
            ) from error
        raise UsageError(f"{where}: module {module} cannot be imported: {error}{_last_line_of(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{where}: module {module} cannot be imported: {type(error).__name__}: {error}{_last_line_of(error)}"
        ) from error


def _last_line_of(error: BaseException) -> str:
    """Where an exception was raised, if in a file that is not ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace is not None else "<"
    return "" if file[0] == "<" or trace is None or file.startswith(_PACKAGE) else f" ({file}:{trace.tb_lineno})"


def _no_such_class(module: str, name: str, found: object, base: type | None) -> str:
    from inspect import getmembers, isclass

    holder = sys.modules[module]
    file = getattr(holder, "__file__", None) or "built in"
    if found is not None:
        return f"{name} in {file} is no class"
    there = [
        key
        for key, value in getmembers(holder, isclass)
        if value.__module__ == module and issubclass(value, base or object)
    ] or list(getattr(holder, "__all__", ()))
    return f"{file} has no class {name}; it has {', '.join(there) or 'none'}"


# The options


def _signature(cls: type) -> Signature:
    import inspect

    try:
        return inspect.signature(cls, eval_str=True)
    except (NameError, TypeError, AttributeError):
        # An annotation that means something to type checkers only: then its text is all we know, and values stay text.
        return inspect.signature(cls)


class _Options:
    """The text of a definition's options, and the constructor that wants them."""

    def __init__(self, definition: Definition, cls: type, signature: Signature, positional: int) -> None:
        self._definition = definition
        self._class = cls
        self._known = _keywords(signature, positional)
        self._takes_any = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())

    def convert(self) -> dict[str, Any]:
        options = {key: self._value(key, text) for key, text in self._definition.options.items()}
        for key, parameter in self._known.items():
            if parameter.default is parameter.empty and key not in options:
                raise UsageError(f"{self._definition.where}: {self._class.__name__} wants `{key} = ...`")
        return options

    def _value(self, key: str, text: str) -> Any:
        if key not in self._known and not self._takes_any:
            raise UsageError(f"{self._definition.where} {key}: {self._unknown(key)}")
        annotation = self._known[key].annotation if key in self._known else str
        try:
            return from_text(text, annotation, self._definition.file)
        except ValueError as error:
            raise UsageError(f"{self._definition.where} {key}: {error}") from error

    def _unknown(self, key: str) -> str:
        from difflib import get_close_matches

        close = get_close_matches(key, self._known, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        return f"{self._class.__name__} has no such option; it has {', '.join(self._known) or 'none'}{meant}"


def _keywords(signature: Signature, positional: int) -> dict[str, Parameter]:
    """What a constructor takes by name, after so many arguments that it gets anyway."""
    named = [one for one in signature.parameters.values() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return {one.name: one for one in named[positional:] if one.kind is not one.POSITIONAL_ONLY}


_BOOLEANS = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


def from_text(text: str, annotation: Any, file: str = "") -> Any:
    """A text of an INI file as the type that an annotation names; as it is, where that is none we know.

    bool (yes, no, true, false, on, off, 1, 0), int, float, str, pathlib.Path (`~` is home; relative to the file's folder),
    list[T] and tuple[T, ...] (one per line; a single line is split at commas), each also `| None` (empty text).
    Raises ValueError with what was wanted and found.
    """
    from pathlib import Path
    from typing import get_args, get_origin

    choices = [one for one in get_args(annotation) if one is not type(None)]
    if type(None) in get_args(annotation):
        return None if not text.strip() else from_text(text, choices[0] if len(choices) == 1 else str, file)
    if annotation is bool:
        if text.strip().lower() not in _BOOLEANS:
            raise ValueError(f"yes or no is wanted, found {text!r}")
        return _BOOLEANS[text.strip().lower()]
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            what = "a whole number" if annotation is int else "a number"
            raise ValueError(f"{what} is wanted, found {text!r}") from None
    if annotation is Path:
        return Path(os.path.abspath(os.path.join(os.path.dirname(file), os.path.expanduser(text.strip()))))
    sequence = get_origin(annotation) or annotation
    if sequence in (list, tuple):
        items = text.splitlines() if "\n" in text else text.split(",")
        of = choices[0] if choices else str
        return sequence(from_text(item.strip(), of, file) for item in items if item.strip())
    return text


# For people


class Option(NamedTuple):
    """One option of a class: its name, what it becomes, its default as text ("": it must be given), one line of help."""

    name: str
    type: str
    default: str
    help: str


def options_of(cls: type, positional: int) -> list[Option]:
    """The options of a class, with the help that its docstring gives in lines "`name`: help"."""
    import re

    text = " ".join((cls.__doc__ or "").split())
    found = re.findall(r"`(\w+)`: (.*?)(?= `\w+`: |$)", text.partition("Options: ")[2])
    helps = {name: words.strip().rstrip(".") for name, words in found}
    signature = _signature(cls)
    known = _keywords(signature, positional)
    options = [
        Option(name, _type_name(one), "" if one.default is one.empty else _default(one.default), helps.get(name, ""))
        for name, one in known.items()
    ]
    if any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values()):
        options += [Option(name, "text", "none", text) for name, text in helps.items() if name not in known]
    return options


def _type_name(parameter: Parameter) -> str:
    if parameter.annotation is parameter.empty:
        return "text"
    name = getattr(parameter.annotation, "__name__", "") if isinstance(parameter.annotation, type) else ""
    words = {"str": "text", "bool": "yes/no", "int": "number", "float": "number", "Path": "path", "list": "list"}
    text = str(parameter.annotation).replace("pathlib.Path", "path").removesuffix(" | None")
    return words.get(name) or words.get(text) or ("list" if text.startswith(("list", "tuple")) else text)


def _default(value: Any) -> str:
    if value in (None, "", [], ()):
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
