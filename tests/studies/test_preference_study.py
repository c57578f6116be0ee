"""The study of preference losses: every method has as many trials, and ablations are of a method."""

from studies.preference.page import CLAIMS
from studies.preference.runs import ABLATIONS, METHODS, trials


def test_methods_have_as_many_trials_and_claims_are_of_methods():
    assert {len(set(trials(method))) for method in METHODS} == {4}
    assert {of for of, _ in ABLATIONS.values()} <= set(METHODS)
    assert {name for claim in CLAIMS for name in claim} <= {*METHODS, *ABLATIONS}
