"""Many runs at once: in one compiled program a group, in studies, and over machines."""
