"""Workflows: pinned, with the least permissions, and nothing untrusted in a shell."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from richregime.chapters import chapter_named, read_chapters

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FILES}
JOBS = {
    f"{name}.{key}": job
    for name, workflow in WORKFLOWS.items()
    for key, job in workflow["jobs"].items()
}
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
SCRIPTS = [(name, step["run"]) for name, step in STEPS if "run" in step]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):(?!=)", MAKEFILE, re.M))

# All that any job may do besides reading the repository.
MAY = {
    "pages.build": {"pages": "read"},
    "pages.deploy": {"pages": "write", "id-token": "write"},
    "reexecute.report": {"issues": "write"},
    "newest.report": {"issues": "write"},
    "stability.report": {"issues": "write"},
}


def test_there_is_a_workflow_for_each_purpose():
    assert set(WORKFLOWS) == {"ci", "pages", "reexecute", "newest", "stability"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_to_commits(path):
    lines = re.findall(r"^.*\buses:.*$", path.read_text(encoding="utf-8"), re.M)
    assert lines
    for line in lines:
        assert re.search(
            r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line
        ), line


def test_an_action_has_one_version():
    pins = {}
    for _, step in STEPS:
        if "uses" in step:
            action, commit = step["uses"].split("@")
            pins.setdefault(action, set()).add(commit)
    assert all(len(commits) == 1 for commits in pins.values()), pins


@pytest.mark.parametrize("name", WORKFLOWS)
def test_by_default_a_workflow_only_reads(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert WORKFLOWS[name]["concurrency"]["group"].startswith(name)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_may_no_more_than_it_needs_and_ends(name):
    job = JOBS[name]
    more = {
        scope: access
        for scope, access in job.get("permissions", {}).items()
        if (scope, access) != ("contents", "read")
    }
    assert more == MAY.get(name, {})
    assert 0 < job["timeout-minutes"] <= 90
    for step in job["steps"]:
        assert step.get("timeout-minutes", 0) < job["timeout-minutes"]


def test_nobody_elses_code_runs_with_more_than_reading():
    """Pull requests come from anyone: only ci sees them, and it may nothing."""
    triggers = {name: workflow[True] for name, workflow in WORKFLOWS.items()}  # "on"
    for name, events in triggers.items():
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(
            events
        )
        assert ("pull_request" in events) == (name == "ci")
    assert triggers["pages"]["push"] == {"branches": ["main"]}
    for name in ("build", "deploy"):
        assert JOBS[f"pages.{name}"]["if"] == "github.ref == 'refs/heads/main'"
    for name in ("reexecute", "newest", "stability"):
        assert "push" not in triggers[name]
        (when,) = triggers[name]["schedule"]
        assert re.fullmatch(r"[1-5]?\d \d+ \* \* [0-6]", when["cron"]), "weekly"


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_shells_get_values_through_the_environment_only(name, script):
    assert "${{" not in script


def test_credentials_do_not_stay_in_a_checkout():
    for _, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_what_a_script_calls_exists(name, script):
    for call in re.findall(r"\bmake ([^|\n]*)", script.replace("\\\n", " ")):
        words = re.sub(r"\"[^\"]*\"|2>&1", "", call).split()
        targets = [word for word in words if "=" not in word]
        assert targets and set(targets) <= TARGETS
        for word in words:
            if "=" in word:
                variable = word.split("=")[0]
                assert f"$({variable})" in MAKEFILE, variable
    for path in re.findall(r"(?:^|\s)(\.ci/\w+)", script):
        assert os.access(ROOT / path, os.X_OK)


def test_what_fails_reaches_the_report():
    """A pipe must not hide a failure, and the logs are where the report looks."""
    for name in ("reexecute", "newest", "stability"):
        assert WORKFLOWS[name]["defaults"]["run"]["shell"] == "bash"  # pipefail
        report = JOBS[f"{name}.report"]
        needed = report["needs"]
        assert report["if"] == (
            "${{ !cancelled() && needs." + needed + ".result != 'success' }}"
        )
        steps = {step.get("uses", "").split("@")[0]: step for step in report["steps"]}
        logs = {
            Path(log).name for log in report["steps"][-1]["run"].split('"')[2].split()
        }
        (upload,) = [
            step
            for step in JOBS[f"{name}.{needed}"]["steps"]
            if "upload-artifact" in step.get("uses", "")
        ]
        assert logs <= set(upload["with"]["path"].split())
        assert upload["if"] == "always()"
        assert steps["actions/download-artifact"]["continue-on-error"] is True


def test_every_chapter_is_perturbed():
    chapters = JOBS["stability.perturb"]["strategy"]["matrix"]["chapter"]
    names = [chapter.name for chapter in read_chapters(ROOT)]
    assert [chapter_named(ROOT, str(word)) for word in chapters] == names


def test_pythons_are_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    supported = SpecifierSet(project["project"]["requires-python"])
    for _, step in STEPS:
        if version := step.get("with", {}).get("python-version"):
            assert "matrix" in version or f"{version}.1" in supported


def test_only_what_matches_the_address_is_published():
    steps = [step.get("run", step.get("uses")) for step in JOBS["pages.build"]["steps"]]
    (check,) = [i for i, step in enumerate(steps) if "make address" in step]
    (build,) = [i for i, step in enumerate(steps) if "make html" in step]
    assert "CHECK=1" in steps[check] and check < build
    assert "upload-pages-artifact" in steps[-1]


# --- .ci/report


GH = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$2" in
  list) cat "$ISSUES" ;;
  *) for last; do :; done; cp "$last" "$BODY" ;;
esac
"""


@pytest.fixture
def report(tmp_path):
    """Run the script with a `gh` that notes what it is asked, and answers."""
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text(GH)
    gh.chmod(0o755)
    issues, calls, body = (tmp_path / name for name in ("issues", "calls", "body"))

    def run(title, *logs, open_issues=""):
        issues.write_text(open_issues)
        calls.write_text("")
        env = {
            "PATH": f"{gh.parent}:{os.environ['PATH']}",
            "GITHUB_REPOSITORY": "ann/regime",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_RUN_ID": "7",
            "GITHUB_SHA": "0" * 40,
            **{"CALLS": str(calls), "ISSUES": str(issues), "BODY": str(body)},
        }
        command = [ROOT / ".ci" / "report", title, *logs]
        subprocess.run(command, env=env, cwd=tmp_path, check=True)
        return calls.read_text().splitlines(), body.read_text()

    return run


def test_the_first_failure_opens_an_issue_with_the_differences(report, tmp_path):
    log = tmp_path / "run.log"
    difference = "mup.C1 (live) changed: reproduced -> not reproduced"
    log.write_text("noise\n" * 500 + f"Verdicts differ:\n  {difference}\n")
    calls, body = report("It $(failed) `now`", log.name)
    assert calls[-1].startswith(
        "issue create --repo ann/regime --title It $(failed) `now` --body-file"
    )
    assert difference in body and body.count("noise") < 100
    assert "https://github.com/ann/regime/actions/runs/7" in body


def test_the_next_failure_is_a_comment_on_the_issue_of_that_title(report, tmp_path):
    (tmp_path / "run.log").write_text("FAILED a::b\n" + "more\n" * 300)
    issues = "14\tIt failed again\n12\tIt failed\n11\tIt failed\n"
    (listed, said), body = report("It failed", "run.log", open_issues=issues)
    assert "--state open" in listed and "--app github-actions" in listed
    assert said.startswith("issue comment 12 --repo ann/regime --body-file")
    assert "FAILED a::b" in body
    calls, _ = report("It differs", "run.log", open_issues=issues)
    assert calls[-1].startswith("issue create")


def test_a_log_is_text_of_a_size_that_an_issue_takes(report, tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(b"\x1b[31m" + b"\x00" + b"x" * 299 + b"\n" * 2)
    (tmp_path / "long").write_text(("y" * 299 + "\n") * 400)
    _, body = report("It failed", *"abc", *["long"] * 4, "missing")
    assert "\x1b" not in body and "\x00" not in body
    assert len(body) < 65536 and "Too long" in body
    _, body = report("It failed", "missing")
    assert "**missing** is missing or empty" in body


def test_dependabot_watches_the_pins():
    path = ROOT / ".github" / "dependabot.yml"
    (update,) = yaml.safe_load(path.read_text(encoding="utf-8"))["updates"]
    assert update["package-ecosystem"] == "github-actions"
    assert update["directory"] == "/"
