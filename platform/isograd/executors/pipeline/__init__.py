"""The parts of the pipelined executor that run on a cluster: actors, their chain, and modules that move in it."""
