"""Run `artmask` as `python -m artmask`."""

from artmask.app import main

main()
