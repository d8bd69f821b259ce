"""`rankviz runs publish`."""

from dataclasses import asdict
from typing import Annotated

import typer

from rankviz.api import Api
from rankviz.cli.shared import Json, print_json
from rankviz.sinks import KINDS, Destination, Token


def runs_publish(
    run_id: Annotated[str, typer.Argument(help="A run or a sweep that has finished.")],
    to: Annotated[str, typer.Option(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")],
    name: Annotated[str, typer.Option(help="The repository, owner/name; of Trackio the project.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; private by default.")] = False,
    space: Annotated[
        str, typer.Option(help="A Space for Trackio, owner/name; by default Trackio on this machine.")
    ] = "",
    base_model: Annotated[str, typer.Option(help="Hub id of the base, where it was trained from a folder.")] = "",
    ask_token: Annotated[
        bool, typer.Option("--ask-token", help="Ask for a token instead of using HF_TOKEN or the login of hf.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a finished run or sweep: to the Hub as a dataset or an adapter, or to Trackio."""
    destination = Destination(to=to, name=name, public=public, space=space, base_model=base_model)
    token = Token(typer.prompt("Hugging Face token", hide_input=True, err=True)) if ask_token else None
    published = Api().sinks.publish(run_id, destination, token, use_login=not ask_token)
    print_json(asdict(published)) if as_json else print(published.in_words(destination))
