"""`standby: true`: two busbars of one name, each with a journal of its own, told the same in different orders."""

import pytest
from rig.stopwatch import had


@pytest.fixture
def pair(story):
    """(owner, standby), both running, the pair of sink and source in the hands of the first."""
    return _pair(story)


@pytest.fixture
def quick_pair(story):
    """The same, where it is not measured how soon one that died is missed."""
    return _pair(story, **story.sink.missed_sooner())


def _pair(story, **sink) -> tuple:
    owner = story.busbar(0, standby=True, **sink)
    story.say(5)
    story.arrived(owner)
    standby = story.busbar(1, standby=True, **sink)
    story.wait(standby, lambda sink: sink["state"] == "standby", "the second is standby")
    return owner, standby


def _took_over(story, busbar, within: float, since: float) -> None:
    story.goes_on(busbar)
    took = had() - since
    assert took < within, f"{took:.1f} s\n{busbar.log_tail()}"


def _back_after(story, busbar) -> float:
    """Seconds from its start, after a kill -9, until it publishes again."""
    busbar.kill9()
    start = had()
    busbar.start()
    story.goes_on(busbar)
    return had() - start


def test_a_standby_takes_over_from_one_that_is_killed_and_both_say_who_owns_what(story, pair):
    owner, standby = pair
    first, second = owner.status()["instance"], standby.status()["instance"]
    assert first != second
    for busbar in pair:
        story.wait(busbar, lambda sink: sink["owner"] == first, f"{first} is said to own it", 5)
    assert [story.status(busbar)["state"] for busbar in pair] == ["publishing", "standby"]
    with story.tells():
        story.goes_on(owner)
        owner.kill9()
        _took_over(story, standby, 10, had())
    story.wait(standby, lambda sink: sink["owner"] == second and sink["state"] == "publishing", "the other owns it", 5)
    story.arrived(standby)
    story.assert_exact()


def test_a_standby_takes_over_from_one_that_stops(story, pair):
    owner, standby = pair
    with story.tells():
        story.goes_on(owner)
        start = had()
        owner.stop()
        _took_over(story, standby, 5, start)  # sooner than one is missed
    story.arrived(standby)
    story.assert_exact()


def test_a_paused_owner_that_wakes_up_publishes_nothing(story, quick_pair):
    owner, standby = quick_pair
    with story.tells():
        for zombie, heir in ((owner, standby), (standby, owner)):
            story.goes_on(zombie)
            zombie.pause()
            story.goes_on(heir, timeout=20)
            zombie.resume()
            story.wait(zombie, lambda sink: sink["state"] == "standby", "the zombie is standby", 20)
            story.goes_on(heir)
    story.arrived(standby if story.status(standby)["state"] == "publishing" else owner)
    story.assert_exact()


def test_each_event_once_whichever_order_it_was_told_in(story, quick_pair):
    """Killed at random moments in turn: the heir goes on in the middle of an index, in its own order."""
    with story.tells():
        for turn in range(3):
            one = quick_pair[turn % 2]
            story.say(3, events=40)
            story.pause(0.0, 0.1)
            one.kill9()
            story.say(3, events=40)
            story.goes_on(quick_pair[1 - turn % 2], timeout=20)
            one.start()
            story.wait(one, lambda sink: sink["state"] == "standby", "standby again", 20)
    story.arrived(quick_pair[1])
    story.assert_exact()


def test_a_standby_that_restarts_disturbs_nobody_and_an_owner_is_back_within_two_seconds(story, pair):
    owner, standby = pair
    before = owner.log_lines("sink_standby")
    with story.tells():
        for hard in (True, False):
            standby.restart(hard=hard)
            story.goes_on(owner, timeout=5)
            story.wait(standby, lambda sink: sink["state"] == "standby", "standby again", 20)
        assert owner.log_lines("sink_standby") == before
        for _ in range(6):  # a busy machine may be late, not each time
            took = _back_after(story, owner)
            if took < 2:
                break
        assert took < 2, f"{took:.1f} s\n{owner.log_tail()}"
        assert story.status(standby)["state"] == "standby"
    story.arrived(owner)
    story.assert_exact()


def test_after_an_outage_exactly_one_owns_it(story, pair):
    owner, standby = pair
    with story.tells():
        story.goes_on(owner)
        story.sink.break_it()
        try:
            owner.wait_log("event=sink_backoff")
        finally:
            story.sink.mend_it()
        states = lambda: sorted(story.status(busbar)["state"] for busbar in pair)  # noqa: E731
        story.wait(owner, lambda _: states() == ["publishing", "standby"], "one of them owns it")
    one = next(busbar for busbar in pair if story.status(busbar)["state"] == "publishing")
    story.arrived(one)
    story.assert_exact()
