"""The parts of the cluster's harness that need no cluster."""

import json

import pytest
from support.cluster import Cluster, ClusterFailed, ClusterStatus, Stats, wait_for


def test_a_status_is_read_by_name():
    """``cluster status --json`` becomes workers by name, and fields that we don't know are no obstacle."""
    worker = {
        "name": "w1",
        "server_id": "w1-0123456789abcdef",
        "pid": 12,
        "address": "127.0.0.1:10501",
        "slots": 2,
        "running": 1,
        "state": "ready",
        "news": True,
    }
    told = ClusterStatus.from_json({"scheduler": {"pid": 11, "address": "127.0.0.1:10600"}, "workers": [worker]})
    assert told.scheduler_pid == 11
    assert told.workers["w1"].server_id == "w1-0123456789abcdef"
    assert told.workers["w1"].running == 1


def test_reasons_that_never_occurred_are_left_out():
    """A reason with a count of nought is no local compilation."""
    stats = Stats({"stats": {"local_compiles": {"time_macros": 0}, "dist_compiles": {"w1": 3}, "dist_retries": 0}})
    assert stats.local_compiles == {}
    assert sum(stats.dist_compiles.values()) == 3


def test_a_fact_that_does_not_come_about_is_named():
    """``wait_for`` gives up with the sentence it was given, and returns the value of a fact that holds."""
    assert wait_for(lambda: "here", "it is here", timeout=0) == "here"
    with pytest.raises(ClusterFailed, match=r"in 0\.05 s it did not come about that pigs fly"):
        wait_for(lambda: None, "pigs fly", timeout=0.05)


def test_a_line_that_is_still_being_written_is_no_event(tmp_path):
    """Only whole JSON lines of a log are events; text between them is passed over."""
    logs = tmp_path / "logs"
    logs.mkdir()
    logs.joinpath("w1.log").write_text(json.dumps({"event": "a"}) + "\ntext\n" + '{"event": "b"', encoding="utf-8")
    watched = Cluster(directory=tmp_path)
    watched.directory = tmp_path
    assert watched.log_events("w1") == [{"event": "a"}]
    assert watched.log_events("unknown") == []
