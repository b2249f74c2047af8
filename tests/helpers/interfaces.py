"""Comparison of a class with the interface that it implements."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from inspect import Parameter


def members(interface: type) -> dict[str, object]:
    """Return the public methods and properties of an interface, those that it inherits as well."""
    found = {name: inspect.getattr_static(interface, name) for name in dir(interface) if not name.startswith("_")}
    return {
        name: member for name, member in found.items() if inspect.isfunction(member) or isinstance(member, property)
    }


def not_abstract(interface: type) -> list[str]:
    """Return the members of an interface that are not abstract, or have no docstring."""
    return [
        name
        for name, member in members(interface).items()
        if not getattr(member, "__isabstractmethod__", False) or not inspect.getdoc(member)
    ]


def differences(interface: type, implementation: type) -> list[str]:
    """Return what an implementation lacks, and the parameters that differ, in words.

    A parameter that the interface does not have must be keyword-only, with a default.
    """
    found = [f"{name} is abstract" for name in sorted(getattr(implementation, "__abstractmethods__", ()))]
    for name, asked in members(interface).items():
        answered = inspect.getattr_static(implementation, name, None)
        if answered is None:
            found.append(f"there is no {name}")
        elif inspect.isfunction(asked):
            found += _different_parameters(name, asked, answered)
        elif inspect.isfunction(answered):
            found.append(f"{name} is a method, not a value")
    return found


def _different_parameters(name: str, asked: object, answered: object) -> list[str]:
    if not inspect.isfunction(asked) or not inspect.isfunction(answered):
        return [f"{name} is no method"]
    wanted, given = inspect.signature(asked).parameters, inspect.signature(answered).parameters
    own = [given[word] for word in given if word not in wanted]
    found = [
        f"{name} needs {parameter.name} as well"
        for parameter in own
        if parameter.kind is not Parameter.KEYWORD_ONLY or parameter.default is Parameter.empty
    ]
    shared = [word for word in given if word in wanted]
    same = shared == list(wanted) and all(
        (wanted[word].kind, wanted[word].default) == (given[word].kind, given[word].default) for word in wanted
    )
    return found if same else [*found, f"{name} takes {', '.join(given)} instead of {', '.join(wanted)}"]


def without(interface: ABCMeta, missing: str) -> type:
    """Return a class that implements everything of an interface but one member."""
    present = interface.__abstractmethods__ - {missing}
    return type("Partial", (interface,), {name: lambda self: None for name in present})
