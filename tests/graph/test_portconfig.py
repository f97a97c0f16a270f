"""The PortConfig that chaosd sends reads back as what was meant."""

from __future__ import annotations

import pytest

from chaos.graph.nodeformat import node_format
from chaos.graph.pod import Object, channel_name, parse
from chaos.graph.portconfig import PORT_CONFIG, port_config


@pytest.mark.parametrize("positions", [["MONO"], ["FL", "FR"], [f"AUX{k}" for k in range(64)]])
def test_it_names_every_channel(positions: list[str]) -> None:
    form = node_format({PORT_CONFIG: (parse(port_config(positions, 44100, is_input=False)),)})
    assert (form.port_channels, form.channels, list(form.positions)) == (len(positions), len(positions), positions)


@pytest.mark.parametrize(("is_input", "monitor"), [(False, False), (True, True), (True, False)])
def test_it_says_which_way_audio_goes(is_input: bool, monitor: bool) -> None:
    config = parse(port_config(["FL"], 48000, is_input=is_input, monitor=monitor))
    assert isinstance(config, Object)
    assert (config.type, config.id) == (0x40008, PORT_CONFIG)
    assert (config.props[1], config.props[2], config.props[3]) == (0 if is_input else 1, 3, monitor)


def test_unknown_positions_are_numbered() -> None:
    config = parse(port_config(["UNK", "UNK"], 48000, is_input=False))
    assert [channel_name(code) for code in config.props[5].props[0x10005]] == ["AUX0", "AUX1"]
