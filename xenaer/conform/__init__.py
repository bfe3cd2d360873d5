"""Recorded cases of a real kernel, performed again on the emulation and compared (``xenaer conform``)."""
