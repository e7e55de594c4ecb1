"""Pictures: contact sheets, curves, graphs, calibration."""
