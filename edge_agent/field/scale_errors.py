"""A scale that answers that it cannot weigh: a fault of the scale, not a silent device."""

from __future__ import annotations

from edge_agent.errors import DeviceFault
from edge_agent.field.poller import FieldValues, SlowDevice
from edge_agent.field.weighing import Weighing


def hearing_errors(scale: SlowDevice, label: str, values: FieldValues, weighing: Weighing) -> SlowDevice:
    """The same scale, but its errors (overload, a broken cell, a Modbus exception) count as answers."""

    async def read() -> None:
        try:
            await scale.read()
        except DeviceFault as fault:
            if fault.busy:
                raise  # it is busy: asked again soon
            values.weights[label] = None
            weighing.error(label)

    return SlowDevice(scale.name, read, scale.lost, scale.beat_s)
