"""Records of sessions, and what can be learnt from them."""
