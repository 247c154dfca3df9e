"""`edge-agent forget ORDER`: forgets whose the reservations of an order were."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent.cli.daemon import DEFAULT_SOCKET, Socket, call, console
from edge_agent.cli.pin import As, PinFile, with_pin
from edge_agent.cli.text.language import _


def forget(
    order: Annotated[str, typer.Argument(help="the platform's id of the order", metavar="ORDER")],
    socket: Socket = DEFAULT_SOCKET,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Forget whose the reservations of an order were: order id, notes and codes leave the journal's files.

    Which doors were opened when stays. Refused while a reservation of the order is not over. The gateway has
    to forget the order as well.
    """
    body = {"platform_order_id": order}
    done = with_pin(lambda headers: call(socket, "POST", "/v1/forget", body, headers), pin_file, name)
    text = _("forgotten: {number} reservations", number=done["reservations"])
    console.print(text, highlight=False, markup=False)
