"""`speed-bench publish` against a Hub of our own: what is sent, and what is said when nothing can be."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import speed_bench
from fake_hub import FakeHub, Repo

from speed_bench.errors import ConfigError
from speed_bench.metric_files import metric_modules
from speed_bench.publish import spaces

MODULES = metric_modules()
NAMES = [module.name for module in MODULES]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running


def publish(hub: FakeHub, home: Path, *flags: str, repo: str = "org", check: bool = True, **env: str):
    """`speed-bench publish metrics` in a process that knows no other Hub."""
    env = {**hub.environment(home), **env}
    return speed_bench("publish", "metrics", "--repo", repo, *flags, env=env, check=check)


def refused(hub: FakeHub, home: Path, **env: str) -> str:
    """What it says when it cannot publish: one sentence."""
    done = publish(hub, home, check=False, **env)
    assert done.returncode == 2, (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return line


def writes(hub: FakeHub) -> list[str]:
    """What changed something at the Hub, or would have."""
    return [asked for asked in hub.requests if asked.startswith("POST") and "validate" not in asked]


def test_every_module_has_its_space_with_its_files(hub: FakeHub, tmp_path: Path) -> None:
    said = publish(hub, tmp_path).stdout.splitlines()
    assert said == [
        *(f"created    {hub.url}/spaces/org/{name}" for name in NAMES),
        f'use: evaluate.load("org/{NAMES[0]}")',
    ]
    assert sorted(hub.repos) == sorted(f"spaces/org/{name}" for name in NAMES)
    for module in MODULES:
        repo = hub.repos[f"spaces/org/{module.name}"]
        assert repo.sdk == "gradio"
        assert {name: repo.files.get(name) for name in module.files} == module.files
        assert [summary for summary, _ in repo.commits] == [
            "initial commit",
            f"{module.name} {module.sha256[:12]}",
        ]


def test_the_same_files_make_no_second_commit(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, tmp_path)
    hub.requests.clear()
    said = publish(hub, tmp_path).stdout.splitlines()
    assert said[:3] == [f"unchanged  {hub.url}/spaces/org/{name}" for name in NAMES]
    assert writes(hub) == []


def test_only_what_changed_is_sent_and_files_of_others_stay(hub: FakeHub, tmp_path: Path) -> None:
    module = MODULES[1]
    for each in MODULES:
        hub.repos[f"spaces/org/{each.name}"] = Repo("gradio", [("by hand", {**each.files, "logo.png": b"png"})])
    hub.repos[f"spaces/org/{module.name}"].files["app.py"] = b"old"
    said = publish(hub, tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in said[:3]] == ["unchanged", "updated", "unchanged"]
    assert hub.repos[f"spaces/org/{module.name}"].files == {**module.files, "logo.png": b"png"}
    assert [hub.repos[f"spaces/org/{name}"].sent for name in NAMES] == [[], ["app.py"], []]
    assert [asked for asked in writes(hub) if "create" in asked] == []


def test_a_space_that_is_not_ours_stops_everything(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[f"spaces/org/{NAMES[2]}"] = Repo("gradio", [("theirs", {"app.py": b"theirs", "data.csv": b""})])
    said = refused(hub, tmp_path)
    assert f"{hub.url}/spaces/org/{NAMES[2]} holds app.py, data.csv but not {NAMES[2]}.py" in said
    assert "so it is not ours to replace" in said
    assert writes(hub) == []


def test_what_was_stopped_is_finished(hub: FakeHub, tmp_path: Path) -> None:
    hub.refuse = {f"POST /api/spaces/org/{NAMES[1]}/commit": 500}
    stopped = publish(hub, tmp_path, check=False)
    assert stopped.returncode == 2
    assert stopped.stdout == f"created    {hub.url}/spaces/org/{NAMES[0]}\n"
    assert f"{NAMES[1]} cannot be written: the Hub answered 500" in stopped.stderr
    assert set(hub.repos[f"spaces/org/{NAMES[1]}"].files) == {".gitattributes", "README.md"}
    hub.refuse = {}
    said = publish(hub, tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in said[:3]] == ["unchanged", "created", "created"]


def test_a_dry_run_lists_what_would_go_where_and_asks_nobody(hub: FakeHub, tmp_path: Path) -> None:
    said = publish(hub, tmp_path, "--dry-run", HF_TOKEN="").stdout
    assert hub.requests == []
    for module in MODULES:
        block = said.split(f"{hub.url}/spaces/org/{module.name}\n")[1]
        rows = [line.split() for line in block.splitlines()[: len(module.files)]]
        assert rows == [
            [name, str(len(content)), "bytes", hashlib.sha256(content).hexdigest()[:12]]
            for name, content in module.files.items()
        ]


@pytest.mark.parametrize("org", ["a/b", "", " ", "-a", "a-", "a--b", "a..b", ".a", "ä", "a b", "a" * 97, "a\n"])
def test_a_name_that_the_hub_cannot_hold_is_refused(org: str) -> None:
    with pytest.raises(ConfigError, match="is not the name of an organization or a user"):
        spaces(org, MODULES)


@pytest.mark.parametrize("org", ["a", "nvidia", "My-Org_2.0"])
def test_other_names_are_taken(org: str) -> None:
    assert [space.repo_id for space in spaces(org, MODULES)] == [f"{org}/{name}" for name in NAMES]


class TestRefusals:
    def test_without_a_token(self, hub: FakeHub, tmp_path: Path) -> None:
        assert "no token of the Hugging Face Hub; run `hf auth login`" in refused(hub, tmp_path, HF_TOKEN="")
        assert hub.requests == []

    def test_with_a_wrong_token(self, hub: FakeHub, tmp_path: Path) -> None:
        said = refused(hub, tmp_path, HF_TOKEN="hf_wrong")  # noqa: S106 - it is meant to be wrong
        assert "the Hub does not accept the token" in said
        assert "hf_wrong" not in said
        assert writes(hub) == []

    @pytest.mark.parametrize(
        ("status", "sentence"),
        [
            (402, "the Hub asks for payment (refused with 402); gradio Spaces need a subscription"),
            (403, "the token may not do this (refused with 403); it needs the write role"),
        ],
    )
    def test_without_the_right_to_make_spaces(self, hub: FakeHub, tmp_path: Path, status: int, sentence: str) -> None:
        hub.refuse = {"POST /api/repos/create": status}
        said = refused(hub, tmp_path)
        assert f"{hub.url}/spaces/org/{NAMES[0]} cannot be written: {sentence}" in said
        assert hub.repos == {}

    def test_where_the_hub_is_away(self, hub: FakeHub, tmp_path: Path) -> None:
        assert "the Hub at http://127.0.0.1:9 does not answer" in refused(
            hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9"
        )
        assert "HF_HUB_OFFLINE is set" in refused(hub, tmp_path, HF_HUB_OFFLINE="1")
