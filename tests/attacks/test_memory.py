"""What takes memory without end in a training: its worker, and what a row or a chat template make of text.

Small workers and one tokenizer stand for a true training, which takes longer to import than all of this.
"""

import pytest

from rankviz.api import Api
from rankviz.dataset import Example
from rankviz.errors import BadDataError
from rankviz.jobs.local import Local
from rankviz.machine import memory_bytes
from tests.support.processes.workers import Patient, lost_reasons, sweep, worker
from tests.support.quick import first_quick

MB = 10**6
LIMIT = 200 * MB
TAKES = (
    "for run_id in run_ids:\n"
    "    if begin(run_id):\n"
    "        if run_id.endswith('r4'):\n"
    "            taken = [b'x' * 10**7 for _ in range(10**4)]\n"
    "        complete(run_id)\n"
)


def settle(store, program, memory_bytes=LIMIT, gpus=(), **options):
    """Run what is queued by workers of this program, which may take so much together."""
    engine = Local(store.home, commands={"finetune": worker(program)}, memory_bytes=memory_bytes, gpus=gpus)
    supervisor = Patient(store, engines=[engine], poll_seconds=0.02, **options)
    supervisor.settle()
    supervisor.stop()


def test_a_worker_that_takes_more_than_its_part_is_ended_with_a_sentence_and_the_rest_is_trained(store):
    run_ids = sweep(store, 4, 8)

    settle(store, TAKES, max_attempts=3)

    ended, other = (store.get(run_id) for run_id in run_ids)
    assert ("failed", "completed") == (ended.state, other.state)
    assert ended.error.startswith(
        "Out of memory: this server allows a training at most 191 MiB, and this one took more"
    )
    assert [] == lost_reasons(store, run_ids[0])


@pytest.mark.parametrize(
    "takes",
    first_quick(
        [
            "subprocess.Popen([sys.executable, '-c', 'x = bytearray(4 * 10**8); input()'],"
            " stdin=subprocess.PIPE).wait()",
            "import mmap; taken = mmap.mmap(-1, 4 * 10**8); taken.write(bytes(4 * 10**8)); time.sleep(600)",
            "[subprocess.Popen([sys.executable, '-c', 'import time; x = bytearray(12 * 10**7); time.sleep(600)'],"
            " start_new_session=True) for _ in range(2)][0].wait()",
        ]
    ),
    ids=["a child", "shared memory", "two children in sessions of their own"],
)
def test_what_all_processes_of_a_worker_take_counts(store, takes):
    (run_id,) = sweep(store, 4)

    settle(store, f"for run_id in run_ids:\n    if begin(run_id):\n        {takes}\n        complete(run_id)")

    assert store.get(run_id).error.startswith("Out of memory: this server allows a training at most 191 MiB")


@pytest.mark.slow
def test_pages_that_forked_processes_share_count_once(store):
    (run_id,) = sweep(store, 4)
    forks = (
        "for run_id in run_ids:\n"
        "    if begin(run_id):\n"
        "        taken = bytearray(10**8)\n"
        "        if not os.fork(): time.sleep(0.5), os._exit(0)\n"
        "        os.wait()\n"
        "        complete(run_id)\n"
    )

    settle(store, forks)

    assert "completed" == store.get(run_id).state


@pytest.mark.slow
def test_workers_side_by_side_have_equal_parts(store):
    run_ids = sweep(store, 4, 8)
    takes = TAKES.replace("10**4)]", "12)]; time.sleep(600)")  # 120 MB, which one worker alone may take

    settle(store, takes, gpus=("0", "1"), split_runs=1)

    assert ["failed", "completed"] == [store.get(run_id).state for run_id in run_ids]


def test_a_worker_has_no_secret_in_its_environment_but_the_hubs_token(store, monkeypatch):
    secrets = {
        *("RANKVIZ_ADMIN_TOKEN", "RANKVIZ_COOKIE_KEY", "OAUTH_CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"),
        *("RAY_AUTH_TOKEN", "PGPASSWORD", "MYSQL_PWD", "GITHUB_PAT", "some_api_keys", "GOOGLE_CREDENTIALS"),
    }
    needed = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_TOKEN_PATH", "CUDA_HOME"}
    needed |= {"TOKENIZERS_PARALLELISM", "RANKVIZ_MAX_ROW_TOKENS", "PWD", "UNSLOTH_ALLOW_CPU"}
    for name in secrets | needed:
        monkeypatch.setenv(name, "sixteen letters or more")
    (run_id,) = sweep(store, 4)
    says = "print(*sorted(os.environ), flush=True)\nfor run_id in run_ids: begin(run_id) and complete(run_id)"

    settle(store, says, memory_bytes=float("inf"))

    assert needed == (secrets | needed) & {*(store.run_dir(run_id) / "worker.log").read_text().split()}


CHAT = Example(messages=(("user", "hello"), ("assistant", "hello " * 100)))


@pytest.fixture
def encoded(tokenizer, monkeypatch):
    """The lengths of what is given to the tokenizer."""
    lengths, encode = [], type(tokenizer).__call__

    def counting(self, text, **settings):
        lengths.append(len(text))
        return encode(self, text, **settings)

    monkeypatch.setattr(type(tokenizer), "__call__", counting)
    return lengths


@pytest.mark.torch
@pytest.mark.parametrize(
    "row", [Example(completion="word " * MB), Example(messages=(("user", "word " * MB), ("assistant", "yes")))]
)
def test_of_a_row_no_more_is_tokenized_than_max_length_can_hold(tokenizer, encoded, row):
    from rankviz.worker.finetune.data import ask, tokenize

    tokens = tokenize(row, tokenizer, 8)

    assert 8 == len(tokens.input_ids)
    assert ask(row, tokenizer, 8) is None
    assert max(encoded) <= 8 * 64


@pytest.mark.torch
@pytest.mark.parametrize(
    "template",
    first_quick(
        [
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% if i * j < 0 %}x{% endif %}{% endfor %}"
            "{% endfor %}",
        ]
    ),
)
def test_a_chat_template_without_end_is_ended(tokenizer, monkeypatch, template):
    from rankviz.worker.finetune.data import tokenize

    monkeypatch.setattr(tokenizer, "chat_template", template)

    with pytest.raises(BadDataError, match=r"chat template of this base took more than 0\.5 s of processor time"):
        tokenize(CHAT, tokenizer, 8, template_seconds=0.5)


@pytest.mark.torch
def test_of_what_a_chat_template_writes_no_more_is_tokenized_than_max_length_can_hold(tokenizer, encoded, monkeypatch):
    from rankviz.worker.finetune.data import tokenize

    monkeypatch.setattr(tokenizer, "chat_template", "{{ 'word ' * 100000 + messages[-1].content }}")

    tokenize(CHAT, tokenizer, 8)

    assert [8 * 64] == encoded


def test_workers_of_a_shared_page_alone_have_a_limit_and_a_lower_priority(tmp_path):
    own, shared = (Api(home=tmp_path, shared=each).workspace.supervisor.by_name["local"] for each in (False, True))

    assert (float("inf"), 0) == (own.memory_bytes, own.niceness)
    assert 0.65 * memory_bytes() == shared.memory_bytes and shared.niceness > 0


def test_the_limit_of_a_container_is_its_memory(tmp_path):
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "small").write_text(f"{64 * MB}\n")

    assert memory_bytes([tmp_path / "max", tmp_path / "none"]) == memory_bytes([])
    assert 64 * MB == memory_bytes([tmp_path / "max", tmp_path / "small"])
