"""What the tests of the package share: bits and speed as promised, so seeded before all else."""

from dqnrec_lite import seed_everything

seed_everything(0)
