import re

from vimserve.loadtests.common import checkout


def test_results_go_to_their_folder_in_a_checkout_and_else_to_the_current_one(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert (checkout.results_folder() / "a").resolve() == tmp_path / "a"
    (tmp_path / "loadtests" / "results").mkdir(parents=True)
    assert (checkout.results_folder() / "a").resolve() == tmp_path / "loadtests" / "results" / "a"


def test_the_commit_is_that_of_the_checkout_or_unknown(tmp_path, monkeypatch):
    assert re.fullmatch(r"[0-9a-f]{12,}(-dirty)?|unknown", checkout.commit())
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert checkout.commit() == "unknown"
