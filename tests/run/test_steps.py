import logging

import pytest

from unet_core.run import steps


def test_the_log_tells_blocks_voxels_and_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(steps.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(steps.sys.stderr, "isatty", lambda: False, raising=False)
    with steps.progress("infer", total=4, unit="block", amounts="voxels") as advance:
        advance(0)
        advance(0)
        advance(1, 6e6)
        advance(0)
        advance(2, 12e6)
    assert caplog.messages == [
        "infer: block 1 of 4, 0.06 per second, 0.333 million voxels/s, 54 s left",
        "infer: block 3 of 4, 0.10 per second, 0.6 million voxels/s, 10 s left",
    ]


def test_a_terminal_gets_a_bar_with_the_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps.sys.stderr, "isatty", lambda: True, raising=False)
    with steps.progress("infer", total=2, unit="block", amounts="voxels") as advance:
        advance(1, 3e6)
        advance(1, 3e6)
    told = capsys.readouterr().err
    assert "2/2" in told
    assert "million voxels/s" in told
