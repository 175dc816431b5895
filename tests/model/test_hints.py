from vimserve.model.hints import Assumption, in_words


def test_one_sentence_says_what_is_assumed_and_how_to_say_otherwise() -> None:
    assumptions = [
        Assumption("pooling", "middle", "as usual", "head"),
        Assumption("divide", False, "by its training arguments", True),
        Assumption("stride", 16, "by its 14 rows of patches", 8),
    ]
    assert in_words(assumptions) == (
        "its tensors leave open what is assumed: pooling=middle (as usual), divide=no (by its "
        "training arguments), stride=16 (by its 14 rows of patches); otherwise say "
        "NAME=FILE?pooling=head&divide=yes&stride=8"
    )


def test_nothing_is_said_where_nothing_is_assumed() -> None:
    assert in_words([]) == ""
