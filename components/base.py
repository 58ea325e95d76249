"""How every component is declared: a lightweight Python component in the project's image, which holds kfp already."""

from functools import partial

from kfp import dsl

from taoemb.jobs.pipelines import BASE_IMAGE

component = partial(dsl.component, base_image=BASE_IMAGE, install_kfp_package=False)
