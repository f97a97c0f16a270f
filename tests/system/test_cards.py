"""What sysfs tells of a sound card, from a tree that is laid out as the kernel lays it out."""

from __future__ import annotations

from pathlib import Path

from chaos.system.cards import card_props

PCI = "pci0000:00/0000:00:14.0"


def add_card(sysfs: Path, number: int, device: str, name: str, **usb: str) -> None:
    """`device`: the folder of the card's device below /sys/devices; `usb`: the attributes of the folder above it."""
    folder = sysfs / "devices" / device
    card = folder / "sound" / f"card{number}"
    card.mkdir(parents=True)
    (card / "id").write_text(f"{name}\n")
    (card / "device").symlink_to("../..")
    for key, value in usb.items():
        (folder.parent / key).write_text(f"{value}\n")
    (sysfs / "class" / "sound").mkdir(parents=True, exist_ok=True)
    (sysfs / "class" / "sound" / f"card{number}").symlink_to(card)


def test_a_usb_card_tells_serial_model_and_place(tmp_path: Path) -> None:
    usb = {"serial": "K49-7731", "idVendor": "0763", "idProduct": "0192", "manufacturer": "M-Audio", "product": "K 49"}
    add_card(tmp_path, 2, f"{PCI}/usb1/1-2/1-2.4/1-2.4:1.0", "K49", **usb)
    assert card_props(2, tmp_path) == {
        "alsa.id": "K49",
        "device.serial": "K49-7731",
        "device.vendor.id": "0763",
        "device.product.id": "0192",
        "device.vendor.name": "M-Audio",
        "device.product.name": "K 49",
        "device.bus-path": f"{PCI}/2/2.4/2.4:1.0",
    }


def test_the_place_is_the_port_and_not_the_number_of_the_bus(tmp_path: Path) -> None:
    add_card(tmp_path, 1, f"{PCI}/usb1/1-2/1-2:1.0", "A")
    add_card(tmp_path, 2, f"{PCI}/usb3/3-2/3-2:1.0", "B")
    add_card(tmp_path, 3, f"{PCI}/usb1/1-3/1-3:1.0", "C")
    first, same, other = (card_props(n, tmp_path)["device.bus-path"] for n in (1, 2, 3))
    assert first == same
    assert first != other


def test_other_cards_tell_what_they_can(tmp_path: Path) -> None:
    add_card(tmp_path, 0, "pci0000:00/0000:00:1f.3", "PCH")
    assert card_props(0, tmp_path) == {"alsa.id": "PCH", "device.bus-path": "pci0000:00/0000:00:1f.3"}
    card = tmp_path / "class" / "sound" / "card5"
    card.mkdir()
    (card / "id").write_text("VirMIDI\n")
    assert card_props(5, tmp_path) == {"alsa.id": "VirMIDI"}
    assert card_props(6, tmp_path) == {}
