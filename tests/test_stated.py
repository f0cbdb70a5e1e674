"""The commit that first stated a claim, in small repositories of its own."""

import os
import subprocess

import attrs
import pytest
from richregime import stated
from richregime.chapters import Chapter
from richregime.study import Study
from widthlab.claims import Prediction, exact

STUDY = Study("01-toy", key="toy", paper="nobody2026", origin="rounding")


def judged(number=1, *, statement="It is zero.", within=0.1, value=0.0, commit=""):
    zero = Prediction("value", 0.0, within=within)
    claim = STUDY.claim(number, statement, source="p. 1", primary=zero.endpoint("it"))
    return attrs.evolve(claim.judge(exact(value)), commit=commit)


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A function that runs git where the chapter `01-toy.md` lies."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def call(*words):
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        command = ["git", *who, *words]
        done = subprocess.run(
            command, cwd=tmp_path / "book", capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "01-toy.md").write_text("# A chapter\n")
    return call


def test_a_text_is_of_the_commit_that_holds_it_unchanged(git, tmp_path):
    toy = Chapter("01-toy", tmp_path / "book")
    assert stated.commit_of(toy) == "", "there is no repository"
    git("init", "-q")
    assert stated.commit_of(toy) == "", "there is no commit"
    git("add", ".")
    git("commit", "-qm", "first")
    first = git("rev-parse", "HEAD")
    assert stated.commit_of(toy) == first[:12]
    (tmp_path / "book" / "other.md").write_text("of no account\n")
    assert stated.commit_of(toy) == first[:12]
    toy.source.write_text("# Changed\n")
    assert stated.commit_of(toy) == "", "the text was changed since"
    git("add", ".")
    assert stated.commit_of(toy) == "", "and is not committed"
    git("commit", "-qm", "second")
    assert stated.commit_of(toy) == git("rev-parse", "HEAD")[:12] != first[:12]
    unknown = Chapter("02-new", toy.folder)
    unknown.source.write_text("# Not added\n")
    assert stated.commit_of(unknown) == ""


def test_without_git_nothing_is_said(git, tmp_path, monkeypatch):
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stated.commit_of(Chapter("01-toy", tmp_path / "book")) == ""


def commits(new, old, head="b" * 12):
    found = stated.with_commits(new, old, {STUDY.chapter: head})
    return [judgement.commit for judgement in found]


def test_what_was_stated_before_keeps_its_commit_whatever_was_measured():
    old = [judged(commit="a" * 12)]
    assert commits([judged(value=0.05)], old) == ["a" * 12]
    assert commits([judged()], old, head="") == ["a" * 12]


def test_what_is_stated_anew_has_the_commit_of_its_text():
    old = [judged(commit="a" * 12)]
    changed = [judged(within=0.2), judged(statement="It is nothing."), judged(2)]
    assert commits(changed, old) == ["b" * 12] * 3
    assert commits([judged()], []) == ["b" * 12]
    # Once committed, a claim that had none has the commit of its text.
    assert commits([judged()], [judged()]) == ["b" * 12]


def test_what_no_commit_states_is_named():
    assert stated.notice([judged(commit="a" * 12)]) == ""
    new = [judged(), judged(2, commit="a" * 12), judged(3)]
    assert stated.notice(new) == (
        "Stated in a text that is not committed yet: toy.C1 (live), toy.C3 (live)."
    )
