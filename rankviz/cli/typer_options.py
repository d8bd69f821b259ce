"""Makes Typer's options of those that commands declare in options.py."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_args

import typer

from rankviz.cli.options import declared


class Commands(typer.Typer):
    """Typer, for commands whose options are declared in options.py."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Callable], Callable]:
        """As Typer's."""
        register = super().command(*args, **kwargs)

        def add(command: Callable) -> Callable:
            register(_with_typers_options(command))
            return command

        return add


def _with_typers_options(command: Callable) -> Callable:
    @wraps(command)
    def call(*args: Any, **kwargs: Any) -> Any:
        return command(*args, **kwargs)

    signature = inspect.signature(command)
    call.__signature__ = signature.replace(parameters=[_typers(each) for each in signature.parameters.values()])
    return call


def _typers(parameter: inspect.Parameter) -> inspect.Parameter:
    if (option := declared(parameter)) is None:
        return parameter
    made = getattr(typer, option.kind)(*option.names, **option.more)
    return parameter.replace(annotation=Annotated[get_args(parameter.annotation)[0], made])
