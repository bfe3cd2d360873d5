"""``python -m xenaer``."""

from xenaer.boot import main

main()
