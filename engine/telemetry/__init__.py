"""One file a sensor, one sampler. Raw values become SI units here and nowhere else."""
