"""Drivers of dom0's own devices, as far as error recovery meets them: a name in a host file -> how it behaves."""
