"""The long studies behind the book's figures: what they run, and the rows that came out.

`rows("shop", "DQN")` reads stored rows and needs no TensorFlow; nor does anything else here until
`all_studies` is called or a study's own module is imported.
"""

from __future__ import annotations

from dqnrec_lite.studies.study import Study, rows

__all__ = ["all_studies", "rows"]


def all_studies() -> dict[str, Study]:
    """Every study by its name, in the order in which they run."""
    from dqnrec_lite.studies import (
        defaults,
        encodings,
        epsilon,
        improvements,
        loss,
        pocket,
        promise,
        replay,
        shop,
        tasks,
    )

    studies = [shop.STUDY, epsilon.STUDY, pocket.STUDY, promise.STUDY, loss.STUDY]
    studies += [encodings.STUDY, replay.STUDY]
    studies += [*tasks.TASKS.values(), *defaults.STUDIES, *improvements.STUDIES]
    return {study.name: study for study in studies}
