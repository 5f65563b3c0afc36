"""The torture's own parts: what a seed makes, what harms a journal, what a mirror's client keeps."""

import pathlib
import random

import pytest
from rig.marathon_exits import from_sse
from rig.sse import Frame

from . import harm
from .follower import Follower
from .marathon_judge import judge_arrivals, time_of
from .plan import Plan
from .faults import KINDS
from .stage import Shape


def steps(seed, seconds, **shape):
    """As many as last so long where nothing is slow."""
    plan, found, spent = Plan(Shape(**shape), random.Random(seed)), [], 0.0
    for step in plan.steps():
        found.append(step)
        spent += max(sum(fault.cost for fault in lane) for lane in step.lanes) + step.pause
        if spent > seconds:
            return found


def told(found):
    return [(fault.kind.name, fault.target, fault.length, fault.seed) for step in found for fault in step.faults]


def test_the_same_seed_makes_the_same_faults():
    assert told(steps(7, 600)) == told(steps(7, 600))
    assert told(steps(7, 600)) != told(steps(8, 600))


@pytest.mark.parametrize("marathon", [False, True])
def test_an_hour_has_more_than_a_thousand_faults_of_every_kind(marathon):
    found = told(steps(1, 3600, marathon=marathon))
    assert len(found) > 1200
    other = "nomads" if marathon else "marathons"
    assert {name for name, *_ in found} == {kind.name for kind in KINDS if kind.scope != other}


def test_no_two_faults_touch_one_thing_at_once():
    two = [step for step in steps(3, 3600) if len(step.lanes) == 2]
    assert len(two) > 200
    for step in two:
        first, others = step.lanes[0][0], step.lanes[1]
        assert all(not first.touches & other.touches for other in others)


def test_faults_of_one_kind_alone_come_one_at_a_time():
    others = frozenset(kind.name for kind in KINDS if kind.scope != "redis")
    plan = Plan(Shape(), random.Random(1), others)
    for _, step in zip(range(20), plan.steps(), strict=False):
        assert len(step.faults) == 1


def test_every_fault_is_in_the_readme():
    readme = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
    missing = [kind.name for kind in KINDS if f"`{kind.name}`" not in readme]
    assert not missing


def test_crc32c_is_the_standards():
    assert harm.crc32c(b"123456789") == 0xE3069283
    assert harm.crc32c(bytes(32)) == 0x8A9136AA


@pytest.fixture(name="journal")
def _journal(tmp_path):
    folder = tmp_path / "prod"
    folder.mkdir()
    (folder / "00000000000000000001.seg").write_bytes(b"x" * 1000)
    (folder / "00000000000000000900.seg").write_bytes(b"y" * 500_000)
    text = b"format=2\nid=0123456789abcdef\nboot=abc\nclosed=no\nnext_seq=123\n"
    (folder / "meta").write_bytes(text + b"crc=%08x\n" % harm.crc32c(text))
    return tmp_path


def test_power_loss_takes_the_tail_and_the_boot_id(journal):
    said = harm.lose_power(journal, random.Random(1))
    assert "another boot id" in said
    last = journal / "prod" / "00000000000000000900.seg"
    assert 300_000 <= last.stat().st_size < 500_000
    meta = (journal / "prod" / "meta").read_bytes()
    body, _, crc = meta.rpartition(b"crc=")
    assert b"boot=abc" not in meta and int(crc, 16) == harm.crc32c(body) and b"id=0123456789abcdef" in meta


def test_a_torn_tail_lies_behind_the_last_segment(journal):
    harm.tear(journal, random.Random(1))
    assert (journal / "prod" / "00000000000000000900.seg").stat().st_size > 500_000
    harm.delete(journal, random.Random(1))
    assert list(journal.iterdir()) == []


def frame(index, journal, ordinal=0, event="T"):
    return Frame(f"prod:{index}.{ordinal}@1.{journal}", event, b"{}")


def kept_after(*news, asked="prod:2.1@1.aa"):
    follower = Follower("http://127.0.0.1:1")
    follower._asked = asked
    follower.kept = [frame(1, "aa"), frame(2, "aa"), frame(2, "aa", 1)]
    for each in news:
        follower._keep(each)
    return [f.id for f in follower.kept if f.event == "T"], follower.surprises


def test_a_client_keeps_one_of_what_another_journal_tells_again():
    assert len(kept_after(frame(3, "aa"))[0]) == 4
    assert kept_after(frame(2, "bb")) == (["prod:1.0@1.aa", "prod:2.0@1.bb"], [])
    assert kept_after(frame(0, "bb", event="Gap"), frame(1, "bb")) == (["prod:1.0@1.bb"], [])


def test_a_client_keeps_the_beginning_of_an_index_that_is_told_from_its_middle():
    assert kept_after(frame(2, "bb", 1))[0] == ["prod:1.0@1.aa", "prod:2.0@1.aa", "prod:2.1@1.bb"]


def test_a_client_is_surprised_by_what_nobody_announced():
    kept, surprises = kept_after(frame(1, "bb"))
    assert kept == ["prod:1.0@1.bb"] and len(surprises) == 1
    assert kept_after(frame(1, "bb"), asked="prod:0.0@1.bb") == (kept, [])


class Told:
    """What a judge looks at, of one lane."""

    def __init__(self, *values, gaps=()):
        self.values, self.gaps = values, gaps

    def arrivals(self):
        own = b'{"Topic":"Busbar","Type":"Gap","Key":"prod","Namespace":"","Index":%d,"Payload":{"From":%d,"To":%d}}'
        told = [(b"Gap", own % (to, first, to)) for first, to in self.gaps]
        told += [(b"status_update_event", value) for value in self.values]
        return from_sse([Frame(f"prod:1.{n}@{n}.aa", kind.decode(), data) for n, (kind, data) in enumerate(told)])


def numbered(number):
    text = '{"appId":"/a","eventType":"status_update_event","timestamp":"2026-01-01T00:00:%02d.000Z","number":%d}'
    return (text % (number, number)).encode()


def judged(*values, gaps=()):
    sent = [(numbered(n), time_of(numbered(n))) for n in range(10)]
    return judge_arrivals(sent, Told(*values, gaps=gaps).arrivals())


def test_of_a_marathon_only_what_lies_in_a_told_gap_may_be_missing():
    everything = [numbered(n) for n in range(10)]
    assert not judged(*everything).findings
    without = everything[:4] + everything[7:]
    assert len(judged(*without).lost) == 3
    at = [time_of(numbered(n)) for n in range(10)]
    verdict = judged(*without, gaps=[(at[3], at[7])])
    assert not verdict.findings and len(verdict.excused) == 3
    assert len(judged(*without, gaps=[(at[0], at[1])]).lost) == 3
    assert len(judged(*everything, everything[2]).twice) == 1
    assert judged(*everything[5:], *everything[:5]).key_order
    assert judged(*everything, numbered(11)).unexpected
