"""What every sink does for one busbar alone, and for a second one that takes over by force."""

import json
import shutil


def test_every_event_once_in_order_with_its_bytes(story):
    story.say(200, events=3)
    story.say(3, events=1, size=100_000)
    busbar = story.busbar()
    story.say(50, events=7)
    story.arrived(busbar)
    story.assert_exact()


def test_killed_at_random_moments(story):
    busbar = story.busbar()
    with story.tells():
        for _ in range(10):
            story.pause(0.05, 1.2)
            busbar.restart(hard=True)
        story.goes_on(busbar)
    story.arrived(busbar)
    story.assert_exact()


def test_stopped_and_started(story):
    busbar = story.busbar()
    with story.tells():
        for _ in range(4):
            story.pause(0.1, 0.8)
            assert busbar.stop() == 0
            busbar.start()
        story.goes_on(busbar)
    story.arrived(busbar)
    story.assert_exact()


def test_an_outage_is_made_up_for_and_no_other_sinks_business(story):
    busbar = story.busbar()
    with story.tells():
        story.goes_on(busbar)
        story.sink.break_it()
        try:
            busbar.wait_log("event=sink_backoff")
            story.others_go_on(busbar)
            assert story.status(busbar)["last_error"]
        finally:
            story.sink.mend_it()
        story.goes_on(busbar)
    story.arrived(busbar)
    story.assert_exact()
    assert not [line for line in busbar.log_lines("sink_backoff") if "sink=beside" in line]


def test_killed_during_an_outage(story):
    busbar = story.busbar()
    with story.tells():
        story.goes_on(busbar)
        story.sink.break_it()
        try:
            busbar.restart(hard=True)
            busbar.wait_log("event=sink_backoff")
            story.others_go_on(busbar)
        finally:
            story.sink.mend_it()
        story.goes_on(busbar)
    story.arrived(busbar)
    story.assert_exact()


def test_a_filter_that_lets_nothing_through_moves_the_checkpoint_all_the_same(story):
    busbar = story.busbar(types=["Nothing"])
    story.say(20)
    story.arrived(busbar, timeout=15)
    busbar.stop()
    shutil.rmtree(busbar.folder / "journal")
    for lines in story.servers:
        lines.forget()
    busbar.start()
    story.wait(busbar, lambda sink: sink["index"] >= story.index, "the checkpoint is read again")
    assert not story.sink.arrivals(story.name)


def test_an_event_refused_for_good_is_replaced_and_the_rest_goes_on(story):
    more, size = story.sink.refusing()
    busbar = story.busbar(**more)
    story.say(10)
    story.say(1, events=1, size=size)
    large, index = story.told[-1], story.index
    story.say(10)
    story.arrived(busbar)
    rest = [data for data in story.told if data != large]
    verdict = story.judge(rest)
    assert not verdict.findings, verdict.details()
    (said,) = story.own("Rejected")
    assert said["Index"] == index and said["Payload"]["Size"] == len(large) and said["Payload"]["Reason"]
    line = busbar.wait_log("event=rejected")
    assert "level=error" in line and "sink=tested" in line
    story.assert_others_exact()


def test_behind_the_journal_it_is_told_a_gap_of_its_own(story):
    """20 MB into a journal of one, whose newest 8 MiB are in memory besides."""
    busbar = story.busbar(journal={"max_size": "1MiB"})
    story.say(10)
    story.arrived(busbar)
    before = story.index
    story.sink.break_it()
    try:
        for _ in range(40):
            story.say(10, events=1, size=50_000)
            story.others_go_on(busbar, story.index)
    finally:
        story.sink.mend_it()
    story.say(10)
    story.arrived(busbar)
    gap = story.own("Gap")[0]["Payload"]
    last = gap["From"]  # what was on its way when the outage began may have arrived
    assert before <= last < gap["To"] - 100 and gap["To"] < story.index and gap["Reason"]
    kept = [data for data in story.told if not last < json.loads(data)["Index"] < gap["To"]]
    verdict = story.judge(kept)
    assert not verdict.findings, verdict.details()
    assert "sink=tested" in busbar.wait_log("event=sink_gap")
    story.assert_others_exact()


def test_a_new_journal_goes_on_by_identity(story):
    """All is told again to a journal that knows nothing; the checkpoint knows what is there already."""
    busbar = story.busbar()
    story.say(100, events=3)
    story.arrived(busbar)
    busbar.kill9()
    shutil.rmtree(busbar.folder / "journal")
    story.say(20, events=3)
    busbar.start()
    story.arrived(busbar)
    story.judge().assert_exact()


def test_a_new_journal_that_begins_behind_the_checkpoint_is_told_as_a_gap(story):
    busbar = story.busbar()
    story.say(20)
    story.arrived(busbar)
    before = story.index
    busbar.stop()
    shutil.rmtree(busbar.folder / "journal")
    for lines in story.servers:
        lines.forget()
    story.index += 10
    story.say(20)
    busbar.start()
    story.arrived(busbar)
    gap = story.own("Gap")[0]
    assert gap["Payload"]["From"] == before and gap["Payload"]["To"] == before + 11
    verdict = story.judge()
    assert not verdict.findings, verdict.details()


def test_the_newest_takes_over_and_the_older_ends_with_status_3(story):
    first = story.busbar(0)
    with story.tells():
        story.goes_on(first)
        second = story.busbar(1)
        assert first.process.wait(30) == 3, first.log_tail()
        assert [line for line in first.log_lines("sink_ended") if "sink=tested" in line]
        story.goes_on(second)
    story.arrived(second)
    story.assert_exact()
