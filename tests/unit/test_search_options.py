import math

import pytest

from nmt.search_options import SearchOptions

INF = math.inf


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_best": 7}, r"--search\.n_best 7 exceeds --search\.beam 5: "),
        ({"beam": 0}, r"--search\.beam 0 "),
        ({"n_best": 0}, r"--search\.n_best 0 "),
        ({"length_penalty": -0.1}, r"--search\.length_penalty -0\.1 "),
        ({"length_penalty": math.nan}, r"--search\.length_penalty nan "),
        ({"sample": True, "temperature": 0.0}, r"--search\.temperature 0\.0 "),
        ({"sample": True, "temperature": INF}, r"--search\.temperature inf "),
        ({"sample": True, "top_k": -1}, r"--search\.top_k -1 "),
        ({"sample": True, "top_p": 0.0}, r"--search\.top_p 0\.0 "),
        ({"sample": True, "top_p": 1.1}, r"--search\.top_p 1\.1 "),
        ({"temperature": 0.5}, r"--search\.temperature 0\.5 needs --search\.sample true"),
        ({"top_k": 5}, r"--search\.top_k 5 needs --search\.sample true"),
        ({"consensus": -0.1}, r"--search\.consensus -0\.1 must be a number above 0, or 0"),
        ({"consensus": math.nan}, r"--search\.consensus nan "),
        ({"consensus": 2.0, "beam": 1}, r"--search\.consensus 2\.0 needs --search\.beam 2 or more"),
        ({"consensus": 2.0, "sample": True}, r"--search\.consensus 2\.0 .* leave out --search\.sample true"),
        ({"top_p": 0.9}, r"--search\.top_p 0\.9 needs --search\.sample true"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**values)


def test_more_samples_than_the_beam_is_wide_are_fine():
    assert SearchOptions(sample=True, n_best=50).n_best == 50
