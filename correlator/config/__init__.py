"""One correlator.yaml for every process: composed here, each part described by its own package."""
