"""The Python reader and the JavaScript one give the same answers on inputs that no vector has."""

import differences


def test_both_readers_say_the_same():
    found, outcomes = differences.compare(23, {"texts": 3000, "streams": 1200, "packs": 1200})
    assert found == []
    for kind in ("texts", "streams", "packs"):
        assert outcomes[f"{kind} accepted"] > 8
        assert outcomes[f"{kind} refused"] > 8


def test_a_difference_is_found():
    request = ("check", "pack", "1")
    assert differences.differs(request, ("ok",), ("refused", "container", "json", "header"))
    assert differences.differs(request, ("refused", "a", "b", "c"), ("refused", "a", "b", "d"))
    assert not differences.differs(request, ("refused", "a", "b", '"'), ("refused", "a", "b", '\\"'))
