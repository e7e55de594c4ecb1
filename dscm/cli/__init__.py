"""The command lines of the scripts; no other folder knows argparse."""
