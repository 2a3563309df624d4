"""``python -m tests.cluster.link DEVICE up|down [ADDRESS GATEWAY]``: set a device of this host.

Prints when the device went down.
"""

from __future__ import annotations

import sys
import time

from pyroute2 import IPRoute


def main(device: str, state: str, address: str = "", gateway: str = "") -> None:
    with IPRoute() as routes:
        index = routes.link_lookup(ifname=device)[0]
        if address:
            routes.addr("add", index=index, address=address, prefixlen=24)
        routes.link("set", index=index, state=state)
        if gateway:  # Ray takes a host without a default route for one without a network
            routes.route("add", dst="default", gateway=gateway)


if __name__ == "__main__":
    main(*sys.argv[1:])
    if sys.argv[2] == "down":
        print(time.time())
