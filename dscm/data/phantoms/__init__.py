"""Phantoms: synthetic faces and mammograms in the layouts of CelebAMask-HQ and EMBED, with true counterfactuals."""
