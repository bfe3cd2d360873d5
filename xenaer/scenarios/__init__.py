"""The scenarios of xen-pci.md 7.5 and 10 as data, and what plays them on a simulated system."""
