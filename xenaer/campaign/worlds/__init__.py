"""Where cases are played: virtual time, real processes, the library of scenarios; and what is looked up afterwards."""
