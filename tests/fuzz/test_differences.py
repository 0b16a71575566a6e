"""The readers give the same answers on inputs that no vector has."""

import differences
from c_reader import built


def test_both_readers_say_the_same():
    found, outcomes = differences.compare(23, {"texts": 3000, "streams": 1200, "packs": 1200})
    assert found == []
    for kind in ("texts", "streams", "packs"):
        assert outcomes[f"{kind} accepted"] > 8
        assert outcomes[f"{kind} refused"] > 8


def test_every_reader_gives_the_weights_of_sound_packs(tmp_path):
    """They are those that the maker of the vectors computes; faulty packs are refused by C too."""
    found, outcomes = differences.compare(7, {"sound": 300, "packs": 200}, c=built(tmp_path))
    assert found == []
    assert outcomes["sound accepted"] == 300
    assert outcomes["packs refused"] > 8


def test_a_difference_is_found():
    request = ("check", "pack", "1")
    assert differences.differs(request, ("ok",), ("refused", "container", "json", "header"))
    assert differences.differs(request, ("refused", "a", "b", "c"), ("refused", "a", "b", "d"))
    assert not differences.differs(request, ("refused", "a", "b", "c"), ("refused", "a", "b", "c"))


def test_a_reader_that_only_loads_may_accept_what_it_can_vouch_for():
    field, hashed = ("refused", "descriptor", "field", "a"), ("refused", "contents", "sha256", "a")
    assert not differences.too_lax(field, ("ok",))
    assert differences.too_lax(hashed, ("ok",))
    assert differences.too_lax(("ok",), field)
    assert differences.too_lax(hashed, ("crashed", "exit status 1"))
    assert not differences.too_lax(hashed, field)
