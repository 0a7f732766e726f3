"""`speed-bench publish dataset`: whose text goes up, and what a Hub of our own is sent."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner
from command import speed_bench
from fake_hub import TOKEN, FakeHub, Repo
from huggingface_hub import close_session, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_bench.cli import cli
from speed_bench.data.card import card
from speed_bench.data.editions import config_entries, load, read_manifest
from speed_bench.data.folders import EditionFacts, write_config
from speed_bench.data.manifest import config_sha256
from speed_bench.data.release import Release, release
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.data.sources import SOURCES
from speed_bench.data.tables import read_records
from speed_bench.errors import ConfigError, DataError, HubError, SpeedBenchError
from speed_bench.publish_dataset import checked_repo, publish
from speed_bench.types import Conversation

REPO = "org/name"
OPEN, CLOSED = "https://example.org/open", "https://example.org/closed"
SAID = {"open": {"url": OPEN, "redistributable": True}, "closed": {"url": CLOSED, "redistributable": False}}


def row(number: int, source: str, *turns: str, **changes: Any) -> Conversation:
    """A row that is told from any other by its text."""
    told = turns or (f"Row {number} of {source} asks for the tides of harbour {number * 7919}.",)
    columns = {"sub_category": None, "src_id": f"record_{number}", "difficulty": None, "multiturn": len(told) > 1}
    return Conversation(**{
        "question_id": f"{number:032x}", "category": ("coding", "qa")[number % 2], "turns": told, "source": source,
        **columns, **changes,
    })  # fmt: skip


ROWS = (
    row(0, OPEN),
    row(1, CLOSED),
    row(2, OPEN, "First of two turns that are open.", "And the second one of these."),
    row(3, CLOSED, "First of two turns that are closed.", "And the second of those, closed as well."),
)


def write(folder: Path, rows: tuple[Conversation, ...] = ROWS, config: str = "chat", **changes: Any) -> Path:
    """The folder of an edition of these rows, whose sources have the ids of `SAID`."""
    facts = {
        "edition": "curated",
        "version": "1",
        "licence": "MIT",
        "redistributable": False,
        "source": "tests",
        "builder": {"name": "tests"},
        "sources": SAID,
    }
    ids = {each["url"]: name for name, each in SAID.items()}
    about = changes.pop("about", None)
    write_config(
        folder,
        EditionFacts(**{**facts, **changes}),  # type: ignore[arg-type]
        config,
        rows,
        source_of=lambda each: ids.get(each.source),
        about=about,
    )
    return folder


def edit(folder: Path, change: Any) -> Path:
    """Change what the manifest of a folder says."""
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    return folder


def made(folder: Path, out: Path, *configs: str) -> Release:
    """What would go up."""
    out.mkdir()
    return release(str(folder), configs, REPO, out)


def told(released: Release) -> str:
    """Everything that a release says to somebody who reads its files: raw, and what Parquet and JSON hold."""
    said = [path.read_bytes().decode("latin-1") for path in released.files.values()]
    for name, path in released.files.items():
        if name.endswith(".parquet"):
            said += [text for each in read_records(path) for text in json.dumps(each, ensure_ascii=False).splitlines()]
        else:
            said.append(path.read_text("utf-8"))
    return "\0".join(said)


class TestWhoseTextGoesUp:
    def test_that_of_redistributable_sources_and_a_placeholder_for_every_other_turn(self, tmp_path: Path) -> None:
        released = made(write(tmp_path / "mine"), tmp_path / "out")
        rows = read_records(released.files["chat/test-00000-of-00001.parquet"])
        assert [each["turns"] for each in rows] == [
            list(ROWS[0].turns),
            [PLACEHOLDER],
            list(ROWS[2].turns),
            [PLACEHOLDER] * 2,
        ]
        for ours, theirs in zip(ROWS, rows, strict=True):
            assert {**theirs, "turns": None} == {
                name: None if name == "turns" else getattr(ours, name) for name in theirs
            }
        assert [(each.source, each.num_with_text, each.num_masked) for each in released.shares] == [
            ("closed", 0, 2),
            ("open", 2, 0),
        ]
        assert sorted(released.files) == [
            "LICENSE.md",
            "README.md",
            "chat/test-00000-of-00001.parquet",
            "eval.yaml",
            "manifest.json",
        ]

    def test_a_masked_row_keeps_its_hashes_and_the_config_its_name_in_results(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "mine")
        out = tmp_path / "out"
        made(folder, out)
        before, after = (config_entries(read_manifest(each), "chat", each) for each in (folder, out))
        masked = {name for name, entry in after.items() if entry.pop("masked", False)}
        assert masked == {ROWS[1].question_id, ROWS[3].question_id}
        assert after == before
        assert config_sha256("curated", "1", "chat", after) == load(str(folder), "chat").manifest_sha256
        for path in (folder / "chat").iterdir():
            (out / "chat" / path.name).write_bytes(path.read_bytes())
        assert load(str(out), "chat").rows == ROWS, "the text is in place again, under the manifest that was published"

    def test_what_went_up_is_refused_as_prompts_until_the_text_is_in_place(self, tmp_path: Path) -> None:
        made(write(tmp_path / "mine"), tmp_path / "out")
        with pytest.raises(DataError, match=f"row {ROWS[1].question_id} .* holds a placeholder, not its prompt"):
            load(str(tmp_path / "out"), "chat")

    def test_keys_that_nobody_knows_do_not_go_up(self, tmp_path: Path) -> None:
        def gossip(manifest: dict[str, Any]) -> None:
            manifest["gossip"] = manifest["configs"]["chat"]["gossip"] = ROWS[1].turns[0]
            for each in manifest["configs"]["chat"]["rows"].values():
                each |= {"gossip": ROWS[1].turns[0], "num_tokens_o200k": [ROWS[1].turns[0]]}

        released = made(edit(write(tmp_path / "mine"), gossip), tmp_path / "out")
        assert ROWS[1].turns[0] not in told(released)
        assert "gossip" not in told(released)

    def test_files_beside_the_rows_do_not_go_up(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "mine")
        (folder / "chat" / "report.html").write_text(ROWS[1].turns[0])
        assert ROWS[1].turns[0] not in told(made(folder, tmp_path / "out"))

    @pytest.mark.parametrize("where", ["about", "builder", "sources", "source", "column"])
    def test_a_manifest_or_column_that_quotes_a_closed_text_is_refused(self, tmp_path: Path, where: str) -> None:
        quote = "  as in:\n" + ROWS[3].turns[1].replace(" ", "\n")
        changes: dict[str, Any] = {
            "about": {"about": {"example": [{"deep": quote}]}},
            "builder": {"builder": {"example": quote}},
            "sources": {"sources": {**SAID, "third": {"terms": quote}}},
            "source": {"source": quote},
            "column": {"rows": (row(9, OPEN, sub_category=quote), *ROWS)},
        }
        folder = write(tmp_path / "mine", **changes[where])
        with pytest.raises(DataError, match=f"the text of row {ROWS[3].question_id} of chat may not be passed on"):
            made(folder, tmp_path / "out")

    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_no_text_of_a_closed_source_is_in_any_byte_whatever_the_manifest_says(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        closed = tuple(row(number, SOURCES[name].url) for number, name in enumerate(("hle", "bamboo", "mmath")))
        tmp_path = tmp_path_factory.mktemp("any")
        folder = write(tmp_path / "mine", (*closed, *(row(each, OPEN) for each in range(5, 9))))
        quotes = (closed[0].turns[0], f"as in: {closed[1].turns[0]}")
        anything = st.sampled_from([True, True, True, False, None, "yes", 1, [], {}])
        quoting = st.sampled_from([True, False, None, "yes", 1, [], {}, *quotes])
        sources = st.dictionaries(st.sampled_from(["open", "hle", "x"]), st.fixed_dictionaries({
            "redistributable": anything, "terms": quoting}) | anything, max_size=3)  # fmt: skip

        def say_anything(manifest: dict[str, Any]) -> None:
            for key in ("redistributable", "licence", "source", "builder", "tokenizer"):
                manifest[key] = data.draw(anything, key)
            manifest["edition"] = data.draw(st.sampled_from(["curated", "open", "official", "mine"]))
            manifest["sources"] = data.draw(sources, "sources")
            config = manifest["configs"]["chat"]
            config["about"] = data.draw(st.dictionaries(st.text(max_size=5), quoting, max_size=2), "about")
            for entry in config["rows"].values():
                entry |= data.draw(st.fixed_dictionaries({"source_id": anything | st.sampled_from(["open", "hle"])}))

        try:
            said = told(made(edit(folder, say_anything), tmp_path / "out"))
        except SpeedBenchError:
            return
        assert [each.question_id for each in closed if each.turns[0] in said] == []


class TestWhatIsRefused:
    def test_rows_that_are_not_those_of_the_manifest(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "mine")
        other = write(tmp_path / "other", (row(0, OPEN, "Another text altogether."), *ROWS[1:]))
        (folder / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
        with pytest.raises(DataError, match="is not the text that its manifest describes"):
            made(folder, tmp_path / "out")

    def test_fewer_rows_than_the_name_of_a_config_promises(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "mine", config="qualitative")
        with pytest.raises(DataError, match="never fewer than 880"):
            made(folder, tmp_path / "out")

    @pytest.mark.parametrize("name", ["../mine", "/etc", "a/b", ".."])
    def test_a_config_whose_name_leads_out_of_the_folder(self, tmp_path: Path, name: str) -> None:
        folder = edit(write(tmp_path / "mine"), lambda each: each["configs"].update({name: each["configs"]["chat"]}))
        with pytest.raises(ConfigError, match="cannot be the name of a config"):
            made(folder, tmp_path / "out")

    def test_configs_that_are_not_there(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "mine")
        with pytest.raises(ConfigError, match="unknown config 'chta'; did you mean 'chat'"):
            made(folder, tmp_path / "out", "chta")
        with pytest.raises(DataError, match="no configs"):
            made(edit(folder, lambda each: each["configs"].clear()), tmp_path / "other")

    @pytest.mark.parametrize("repo", ["name", "a/b/c", "a/", "/b", "a b/c", "a--b/c", "a/b.git", "../b", "a/b\n"])
    def test_a_name_that_the_hub_cannot_hold(self, repo: str) -> None:
        with pytest.raises(ConfigError, match="is not the name of a dataset"):
            checked_repo(repo)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub that this process knows no other than."""
    with FakeHub() as running:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        disable_progress_bars()
        yield running
        enable_progress_bars()
        close_session()


def repo_of(hub: FakeHub) -> Repo:
    return hub.repos[f"datasets/{REPO}"]


def writes(hub: FakeHub) -> list[str]:
    """What changed something at the Hub, or would have."""
    return [asked for asked in hub.requests if asked.startswith(("POST", "PUT")) and "validate" not in asked]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub, when it sends large files
class TestWhatIsSent:
    def test_one_commit_with_every_file_of_the_release(self, hub: FakeHub, tmp_path: Path) -> None:
        released = made(write(tmp_path / "mine"), tmp_path / "out")
        assert publish(released, REPO) == "created"
        sent = {name: path.read_bytes() for name, path in released.files.items()}
        assert {name: repo_of(hub).files[name] for name in sent} == sent
        assert [summary for summary, _ in repo_of(hub).commits] == ["initial commit", "Edition curated 1: chat"]
        assert not repo_of(hub).private
        described = yaml.safe_load(repo_of(hub).files["eval.yaml"])
        assert described["evaluation_framework"] == "speed-bench"
        assert described["tasks"] == [{"id": "chat", "config": "chat", "split": "test"}]
        assert repo_of(hub).files["README.md"].decode() == card(read_manifest(tmp_path / "out"), REPO)

    def test_the_same_release_is_left_alone_and_a_changed_file_goes_alone(self, hub: FakeHub, tmp_path: Path) -> None:
        released = made(write(tmp_path / "mine"), tmp_path / "out")
        publish(released, REPO)
        hub.requests.clear()
        assert publish(released, REPO) == "unchanged"
        assert writes(hub) == []
        repo_of(hub).sent.clear()
        released.files["README.md"].write_text(released.files["README.md"].read_text() + "\nmore\n")
        assert publish(released, REPO) == "updated"
        assert repo_of(hub).sent == ["README.md"]

    def test_rows_of_an_older_commit_do_not_stay_beside_ours(self, hub: FakeHub, tmp_path: Path) -> None:
        released = made(write(tmp_path / "mine"), tmp_path / "out")
        publish(released, REPO)
        files = repo_of(hub).files
        files |= {"chat/test-00001-of-00002.parquet": b"old", "chat/notes.txt": b"theirs", "logo.png": b"theirs"}
        assert publish(released, REPO) == "updated"
        assert "chat/test-00001-of-00002.parquet" not in repo_of(hub).files
        assert {"chat/notes.txt", "logo.png"} <= set(repo_of(hub).files)

    def test_a_private_one_is_made_private_and_a_public_one_is_not_taken_for_it(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        released = made(write(tmp_path / "mine"), tmp_path / "out")
        assert publish(released, REPO, private=True) == "created"
        assert repo_of(hub).private
        repo_of(hub).private = False
        with pytest.raises(HubError, match="is public; make it private"):
            publish(released, REPO, private=True)

    def test_a_repository_with_other_files_is_not_ours(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[f"datasets/{REPO}"] = Repo(None, [("theirs", {"train.csv": b"a,b"})])
        with pytest.raises(HubError, match=r"holds train\.csv but no manifest\.json, so it is not ours to replace"):
            publish(made(write(tmp_path / "mine"), tmp_path / "out"), REPO)
        assert writes(hub) == []

    @pytest.mark.parametrize(
        ("held", "sentence"),
        [
            ({"edition": "open", "version": "1", "configs": {}}, "holds the edition 'open', not curated"),
            ({"manifest_version": 3}, "holds a manifest.json that is not of an edition"),
            ({"edition": "curated", "version": "0", "configs": {"chat": {}, "more": {}}}, r"config\(s\) more"),
        ],
    )
    def test_nor_is_one_that_another_manifest_describes(
        self, hub: FakeHub, tmp_path: Path, held: dict[str, Any], sentence: str
    ) -> None:
        hub.repos[f"datasets/{REPO}"] = Repo(None, [("theirs", {"manifest.json": orjson.dumps(held)})])
        with pytest.raises(HubError, match=sentence):
            publish(made(write(tmp_path / "mine"), tmp_path / "out"), REPO)
        assert writes(hub) == []

    def test_a_repository_that_was_made_by_hand_and_is_empty_is_filled(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[f"datasets/{REPO}"] = Repo(None, [("initial commit", {"README.md": b"# new\n"})])
        assert publish(made(write(tmp_path / "mine"), tmp_path / "out"), REPO) == "created"
        assert [asked for asked in writes(hub) if "create" in asked] == []

    @pytest.mark.parametrize(
        ("asked", "status", "sentence"),
        [
            ("POST /api/repos/create", 403, r"cannot be written: the token may not do this \(refused with 403\)"),
            ("PUT /large-files", 403, r"cannot be written: the token may not do this"),
            (f"POST /api/datasets/{REPO}/commit", 412, "cannot be written: somebody else committed to it meanwhile"),
            (f"GET /api/datasets/{REPO}", 401, "cannot be read: the Hub does not accept the token"),
        ],
    )
    def test_what_the_hub_refuses_is_said_in_a_sentence(
        self, hub: FakeHub, tmp_path: Path, asked: str, status: int, sentence: str
    ) -> None:
        hub.refuse = {asked: status}
        with pytest.raises(HubError, match=sentence):
            publish(made(write(tmp_path / "mine"), tmp_path / "out"), REPO)

    def test_without_a_token_nothing_is_asked(
        self, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(HubError, match="no token of the Hugging Face Hub"):
            publish(made(write(tmp_path / "mine"), tmp_path / "out"), REPO)
        assert hub.requests == []


def test_a_dry_run_lists_files_and_sources_and_asks_nobody(hub: FakeHub, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    done = CliRunner().invoke(cli, ["publish", "dataset", "--repo", REPO, "--edition", str(folder), "--dry-run"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    released = made(folder, tmp_path / "out")
    for name, path in released.files.items():
        content = path.read_bytes()
        assert [name, f"{len(content):,}", "bytes", hashlib.sha256(content).hexdigest()] in lines
    assert ["chat", "closed", "0", "2"] in lines
    assert ["chat", "open", "2", "0"] in lines
    assert lines[-1] == ["nothing", "was", "sent"]
    assert hub.requests == []


LOADED = """
import json
from datasets import get_dataset_config_names, load_dataset
chat = load_dataset("org/name", "chat")
default = load_dataset("org/name")
print(json.dumps([get_dataset_config_names("org/name"), list(chat), chat["test"].to_list(), len(default["test"])]))
"""


@pytest.mark.long
def test_load_dataset_reads_what_was_published_in_a_fresh_home(tmp_path: Path) -> None:
    write(tmp_path / "mine")
    write(tmp_path / "mine", ROWS[:1], "later")
    with FakeHub() as running:
        env = running.environment(tmp_path / "hf")
        arguments = ("publish", "dataset", "--repo", REPO, "--edition", tmp_path / "mine")
        assert "created " in speed_bench(*arguments, env=env).stdout
        assert "unchanged " in speed_bench(*arguments, env=env).stdout
        env = {**running.environment(tmp_path / "fresh", token=""), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([sys.executable, "-c", LOADED], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    configs, splits, rows, num_default = json.loads(done.stdout.splitlines()[-1])
    assert (configs, splits, num_default) == (["chat", "later"], ["test"], len(ROWS))
    assert [each["turns"][0] for each in rows] == [ROWS[0].turns[0], PLACEHOLDER, ROWS[2].turns[0], PLACEHOLDER]
