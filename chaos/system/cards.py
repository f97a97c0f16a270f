"""What the kernel tells of a sound card, also of one that has nothing but MIDI, which PipeWire makes no device of."""

from __future__ import annotations

from pathlib import Path

__all__ = ["card_props"]

_USB = {
    "device.serial": "serial",
    "device.vendor.id": "idVendor",
    "device.product.id": "idProduct",
    "device.vendor.name": "manufacturer",
    "device.product.name": "product",
}


def card_props(number: int, sysfs: Path = Path("/sys")) -> dict[str, str]:
    """The card's properties by PipeWire's names, as far as they can be read; empty where there is no such card.

    `device.bus-path` is where it sits in the machine: the path of its device in sysfs.
    """
    card = sysfs / "class" / "sound" / f"card{number}"
    props = {"alsa.id": _text(card / "id")}
    try:
        device = (card / "device").resolve(strict=True)
        props["device.bus-path"] = _place(device, sysfs)
    except (OSError, ValueError):
        return {key: value for key, value in props.items() if value}
    # The card of a USB device belongs to an interface of it, which lies in its folder.
    props |= {key: _text(device.parent / name) for key, name in _USB.items()}
    return {key: value for key, value in props.items() if value}


def _place(device: Path, sysfs: Path) -> str:
    """Without the numbers of USB buses: the kernel gives them as it comes."""
    parts = device.relative_to((sysfs / "devices").resolve()).parts
    named = [part for part in parts if not part.startswith("usb")]
    return "/".join(part.partition("-")[2] if _is_usb(part) else part for part in named)


def _is_usb(part: str) -> bool:
    """ "1-2.4", or "1-2.4:1.0" for an interface: bus, ports on the way, configuration and interface."""
    bus, dash, rest = part.partition("-")
    return bool(dash) and bus.isdigit() and all(c.isdigit() or c in ".:" for c in rest)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
