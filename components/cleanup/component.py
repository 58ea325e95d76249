"""Runs last, whatever happened before: takes away what nothing will go on from."""

from kfp import dsl

from components.base import component


@component
def cleanup(settings: str, workspace: str, keep_days: int, status: dsl.PipelineTaskFinalStatus):
    """Delete the run's TrainJobs that are still there, and trainings in the workspace that nobody went on with.

    Args:
        settings: Settings as YAML text; section `job` is read.
        workspace: Folder that outlives a step; empty: none.
        keep_days: Days that a stopped training is kept for a new run to go on with.
        status: How the run ended.
    """
    from taoemb.config import pipeline_run
    from taoemb.jobs import steps
    from taoemb.jobs.cleanup import clean_up

    print(f"the run ended: {status.state}")
    for line in clean_up(workspace, keep_days, steps.settings_from(settings).job, pipeline_run()):
        print(line)
