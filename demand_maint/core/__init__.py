"""Everything that decides: values in, values out, ``now`` an argument; no files, no clock, no loop, no log."""
