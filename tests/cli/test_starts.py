"""How the command line starts: what it loads, --version, -h and the completion of a shell."""

import json
import os
import subprocess
import sys

from rankviz import Api, __version__
from tests.cli.command import ROOT, rankviz

LINES = (
    *("--version", "models", "estimate Qwen/Qwen3-4B -r 16 --gpu L4", "fit Qwen/Qwen3-4B -r 16 --gpu L4"),
    *("advise Qwen/Qwen3-4B", "forecast Qwen/Qwen3-4B", "export Qwen/Qwen3-4B -r 16", "validate ROWS", "evidence list"),
    *("spectrum sample --json", "gpus", "skill", "runs list", "serve -h", "verdict LOSSES", "runs show SWEEP"),
    "doctor --quick",
)
"""Every command that needs no torch; what only a later line may load comes last."""
SLOW = {"torch", "transformers", "pandas", "plotly", "gradio", "huggingface_hub", "pyarrow", "scipy", "asyncio"}
RUN = """
import contextlib, io, json, sys
from rankviz.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv, ended = ["rankviz", *words], None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            main()
        except SystemExit as end:
            ended = end.code
    print(json.dumps([words[0], ended, printed.getvalue(), sorted(sys.modules)]))
"""


def test_no_command_loads_a_slow_library_that_it_does_not_need(tmp_path):
    """In one process: a library appears with the first command that loads it."""
    losses = [f"{r},{s},{n},{1 + 0.1 * n + 0.01 * s * r}" for r in (4, 8) for s in (0, 1, 2) for n in range(8)]
    (tmp_path / "losses.csv").write_text("rank,seed,example,loss\n" + "\n".join(losses))
    rows = ROOT / "assets" / "validation" / "grpo" / "published.csv"
    named = {"LOSSES": tmp_path / "losses.csv", "ROWS": rows, "SWEEP": Api(home=tmp_path).runs.recorded()[0].sweep_id}
    lines = [[str(named.get(word, word)) for word in line.split()] for line in LINES]

    run = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines)],
        cwd=ROOT,
        env=os.environ | {"RANKVIZ_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    seen = [json.loads(line) for line in run.stdout.splitlines()]

    assert len(LINES) == len(seen), run.stderr
    slow = {name: SLOW & set(loaded) for name, _, _, loaded in seen}
    assert {"doctor": {"huggingface_hub"}} == {name: found for name, found in slow.items() if found}
    assert [] == [(name, ended, run.stderr) for name, ended, _, _ in seen if ended and name != "doctor"]
    assert f"rankviz {__version__}\n" == seen[0][2]
    assert "predicted but not counted" in next(printed for name, _, printed, _ in seen if name == "validate")


def test_a_shell_completes_commands_options_models_and_gpus(tmp_path):
    """As the script of Typer asks for it in bash."""
    for line, offered in (
        ("rankviz e", {"estimate", "evidence", "export"}),
        ("rankviz estimate --targ", {"--targets"}),
        ("rankviz estimate Qwen/Qwen3-", {"Qwen/Qwen3-4B", "Qwen/Qwen3-8B"}),
        ("rankviz estimate Qwen/Qwen3-4B --gpu l", {"l4"}),
        ("rankviz sweep embedded --precision nf", {"nf4", "nf4-dq"}),
    ):
        asks = {"_RANKVIZ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}

        assert offered <= set(rankviz(home=tmp_path, **asks).stdout.split())
