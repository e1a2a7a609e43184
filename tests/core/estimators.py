"""scikit-learn's own checks of an estimator."""

from typing import Any

from sklearn.utils.estimator_checks import check_estimator

SKIPPED = {
    # For estimators that take other arrays than NumPy's, where SCIPY_ARRAY_API is set before anything is imported.
    "check_array_api_input": "skipped",
}


def checks_not_passed(estimator: Any) -> dict[str, str]:
    """Status of each check that did not pass, by name."""
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    return {result["check_name"]: result["status"] for result in results if result["status"] != "passed"}
