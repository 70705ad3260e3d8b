"""All events of statejobs, as it declares them."""

import inspect

from statejobs import Happening, events

EVENTS = [
    value
    for value in vars(events).values()
    if inspect.isclass(value)
    and issubclass(value, Happening)
    and value is not Happening
]
